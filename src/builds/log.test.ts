import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type LogLine, lineSplitter, MAX_LINE, openBuildLog } from './log.ts';

test('lines come out whole however the bytes are cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.stringMatching(/^[ -~äß€]{1,40}$/u)),
      fc.infiniteStream(fc.integer({ min: 1, max: 7 })),
      (lines, cuts) => {
        const expected = lines.map(line => line.trimEnd()).filter(line => line !== '');
        const bytes = Buffer.from(lines.map(line => `${line}\n`).join(''));
        const splitter = lineSplitter();
        const seen: string[] = [];
        for (let at = 0; at < bytes.length; ) {
          const size = cuts.next().value as number;
          seen.push(...splitter.push(bytes.subarray(at, at + size)));
          at += size;
        }
        assert.deepEqual([...seen, ...splitter.end()], expected);
      },
    ),
  );
});

test('terminal control sequences and control characters of a guest do not reach the log', () => {
  const splitter = lineSplitter();
  assert.deepEqual(splitter.push(Buffer.from('\x1b[31mred\x1b[0m \x1b]0;title\x07ok\x00\r\n10%\r20%\rdone\n')), [
    'red ok',
    '10%',
    '20%',
    'done',
  ]);
});

test('a line of a megabyte is cut and does not pile up in memory', () => {
  const splitter = lineSplitter();
  const lines = [...splitter.push(Buffer.alloc(1024 * 1024, 'x')), ...splitter.end()];
  assert.ok(lines.length >= 1);
  for (const line of lines) assert.ok(line.length < MAX_LINE + 100);
});

test('the file has Azure’s line format, for what Kiln says and for both streams of the guest', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-log-'));
  try {
    const path = join(directory, 'customization.log');
    const lines: LogLine[] = [];
    const log = openBuildLog({ id: 'ID', path, onLine: line => lines.push(line), onError: assert.fail });
    log.phase = 2;
    log.say('Step 1/1 Shell');
    log.mark('(telemetry) Starting provisioner shell');
    log.guest(Buffer.from('out\n'), 'stdout');
    log.guest(Buffer.from('err without end'), 'stderr');
    await log.close();
    const text = await readFile(path, 'utf8');
    assert.match(
      text,
      /^\[ID\] PACKER OUT ==> azure-arm: Step 1\/1 Shell\n\[ID\] PACKER ERR \d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d \(telemetry\) Starting provisioner shell\n\[ID\] PACKER OUT {5}azure-arm: out\n\[ID\] PACKER OUT ==> azure-arm: err without end\n$/,
    );
    assert.deepEqual(
      lines.map(line => [line.phase, line.stream, line.text]),
      [
        [2, 'kiln', 'Step 1/1 Shell'],
        [2, 'stdout', 'out'],
        [2, 'stderr', 'err without end'],
      ],
    );
  } finally {
    await rm(directory, { recursive: true });
  }
});
