import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { type DisplayStream, openDisplay, progressBar } from './display.ts';

/** A stream that keeps what is written, and a clock that the test moves. */
function stage(isTTY: boolean, columns = 100, colours = false) {
  let written = '';
  const sink = new Writable({
    decodeStrings: false,
    write(text: string, _encoding, callback) {
      written += text;
      callback();
    },
  });
  const stream = Object.assign(sink, { isTTY, columns, hasColors: () => colours }) as unknown as DisplayStream;
  const clock = { now: 0 };
  const display = openDisplay(stream, () => clock.now);
  return { display, clock, written: () => written };
}

/** What a terminal shows after `text`: carriage returns and erased lines applied, colours dropped. */
function screen(text: string): string[] {
  const rows = [''];
  for (const part of text.replace(/\x1b\[\d+m/g, '').split(/(\r|\n|\x1b\[K)/)) {
    if (part === '\n') rows.push('');
    else if (part === '\r') rows.push(`\r${rows.pop()!.replace(/^\r/, '')}`);
    else if (part === '\x1b[K') rows.push(rows.pop()!.split('\r')[0]!);
    else if (part !== '') {
      const before = rows.pop()!;
      rows.push(before.startsWith('\r') ? part + before.slice(1 + part.length).replace(/^/, '\r') : before + part);
    }
  }
  return rows.map(row => row.replaceAll('\r', '')).filter(row => row !== '');
}

test('with a terminal, one line moves and finished steps stay', () => {
  const { display, clock, written } = stage(true);
  display.step('download');
  clock.now = 2000;
  display.progress({ label: 'debian-12.qcow2', done: 512 * 1024, total: 1024 * 1024, unit: 'bytes' });
  assert.deepEqual(screen(written()), [
    '  download  2 s  debian-12.qcow2  [##########----------] 50 % (512 KiB of 1 MiB)',
  ]);
  display.line('a line \x1b[31mthat stays');
  clock.now = 3000;
  display.step('boot');
  display.done('failed');
  display.done();
  assert.deepEqual(screen(written()), ['a line that stays', '✓ download  3.0 s', '✗ boot  0.0 s']);
});

test('the moving line is rewritten at most ten times a second and never wraps', () => {
  const { display, clock, written } = stage(true, 40);
  display.step('copy');
  const before = written().length;
  for (let done = 0; done < 99; done += 1) {
    clock.now = done;
    display.progress({ label: 'a label that is much too long for forty columns', done, total: 100, unit: 'steps' });
  }
  assert.equal(written().length, before);
  clock.now = 100;
  display.progress({ label: 'a label that is much too long for forty columns', done: 99, total: 100, unit: 'steps' });
  assert.equal(screen(written())[0]!.length, 39);
  display.done();
});

test('without a terminal there are plain lines: starts, ends, progress now and then', () => {
  const { display, clock, written } = stage(false);
  display.step('download');
  for (let second = 1; second <= 25; second += 1) {
    clock.now = second * 1000;
    display.progress({ label: 'disk', done: second * 1024 * 1024, total: 100 * 1024 * 1024, unit: 'bytes' });
  }
  display.done();
  assert.equal(
    written(),
    [
      'download ...',
      '  disk: 10 % (10 MiB of 100 MiB, 1.1 MiB/s)',
      '  disk: 20 % (20 MiB of 100 MiB, 1.1 MiB/s)',
      'download: done, 25 s',
      '',
    ].join('\n'),
  );
  assert.doesNotMatch(written(), /\x1b|\r/);
});

test('a bar is never longer than its frame', () => {
  assert.equal(progressBar(-1), `[${'-'.repeat(20)}]`);
  assert.equal(progressBar(7), `[${'#'.repeat(20)}]`);
});

test('a line keeps its colours, and nothing else that commands a terminal, where colours are shown', () => {
  const text = 'a \x1b[1;31mred\x1b[2J word\r';
  const { display, written } = stage(true, 80, true);
  display.line(text);
  assert.equal(written(), 'a \x1b[1;31mred word\x1b[0m\n');
  const bare = stage(false);
  bare.display.line(text);
  assert.equal(bare.written(), 'a red word\n');
});
