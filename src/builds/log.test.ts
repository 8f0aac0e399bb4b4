import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type LogLine, lineSplitter, MAX_LINE, openBuildLog, spoken } from './log.ts';
import { redactor } from './redact.ts';

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

test('a line without end costs what its bytes cost, also where each byte comes alone', () => {
  const splitter = lineSplitter();
  const byte = Buffer.from('x');
  let seen = 0;
  // Quadratic work would take minutes here, and the runner's patience end.
  for (let n = 0; n < 826_000; n++) for (const line of splitter.push(byte)) seen += line.length > 0 ? 1 : 0;
  assert.ok(seen > 10 && seen < 40, `${seen} pieces`);
  assert.deepEqual(splitter.push(Buffer.from('\r')), []);
  assert.match(splitter.push(Buffer.from('\nnext\n')).at(-1)!, /^next$/);
});

test('how long a build took is said as Packer says it', () => {
  for (const [milliseconds, words] of [
    [0, '0 seconds'],
    [999.6, '1 second'],
    [193_000, '3 minutes 13 seconds'],
    [3_600_000 + 500, '1 hour 500 milliseconds'],
    [7_265_000, '2 hours 1 minute'],
  ] as const)
    assert.equal(spoken(milliseconds), words);
});

test('a log ends with how the build did, and no secret of the run is in it, whoever says it', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-log-'));
  try {
    const path = join(directory, 'customization.log');
    const lines: LogLine[] = [];
    const open = () =>
      openBuildLog({
        id: 'ID',
        path,
        redact: redactor(['hunter2hunter2']),
        onLine: line => lines.push(line),
        onError: assert.fail,
      });
    const good = open();
    good.say('fetched with hunter2hunter2');
    good.mark('marked hunter2hunter2');
    good.guest(Buffer.from('set -x: hunter2'), 'stderr');
    good.guest(Buffer.from('hunter2\n'), 'stderr');
    good.end();
    await good.close();
    const bad = open();
    bad.end('Step 1/1 Shell failed with exit code 3. Last lines:\n    hunter2hunter2');
    await bad.close();
    const text = await readFile(path, 'utf8');
    assert.doesNotMatch(text + JSON.stringify(lines), /hunter2/);
    const at = String.raw`\d{4}/\d\d/\d\d \d\d:\d\d:\d\d`;
    assert.match(
      text,
      new RegExp(
        [
          String.raw`\[ID\] PACKER OUT ==> azure-arm: set -x: <sensitive>`,
          String.raw`\[ID\] PACKER OUT Build 'azure-arm' finished after .*seconds?\.`,
          String.raw`\[ID\] PACKER ERR ${at} \[INFO\] \(telemetry\) Finalizing\.`,
          String.raw`\[ID\] PACKER OUT Build 'azure-arm' errored: Step 1/1 Shell failed with exit code 3\. Last lines:`,
          String.raw`\[ID\] PACKER OUT     <sensitive>`,
          String.raw`\[ID\] PACKER OUT ==> Builds finished but no artifacts were created\.`,
          String.raw`\[ID\] PACKER ERR ${at} \[INFO\] \(telemetry\) Finalizing\.`,
          '$',
        ].join('\n'),
      ),
    );
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('a flood leaves each later phase room for its lines, and it is said once what is missing of each', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'kiln-log-'));
  try {
    const path = join(directory, 'customization.log');
    const lines: LogLine[] = [];
    const log = openBuildLog({ id: 'ID', path, onLine: line => lines.push(line), onError: assert.fail });
    const flood = Buffer.from(`${'x'.repeat(8000)}\n`.repeat(128));
    const print = (phase: number, mebibytes: number) => {
      log.phase = phase;
      log.guest(Buffer.from(`phase ${phase} begins\n`), 'stdout');
      for (let n = 0; n < mebibytes; n++) log.guest(flood, 'stdout');
      log.guest(Buffer.from(`phase ${phase} ends\n`), 'stdout');
    };
    print(1, 80);
    print(2, 3);
    print(3, 0);
    log.end('no');
    await log.close();
    const told = lines.filter(({ text }) => !text.startsWith('xxx')).map(({ phase, text }) => `${phase}: ${text}`);
    const dropped = told.map(line => /: (\d+) lines of the guest were not kept\.$/.exec(line)?.[1]).filter(Boolean);
    assert.ok(Number(dropped[0]) > 1800 && Number(dropped[1]) > 240, String(dropped));
    assert.deepEqual(told, [
      '1: phase 1 begins',
      '1: The guest printed more than 64 MiB; from here on nothing of this phase is kept, and 1 MiB of each later one.',
      `1: ${dropped[0]} lines of the guest were not kept.`,
      '2: phase 2 begins',
      '2: That is 1 MiB; what this phase prints from here on is not kept.',
      `2: ${dropped[1]} lines of the guest were not kept.`,
      ...['3: phase 3 begins', '3: phase 3 ends'],
    ]);
    assert.match((await readFile(path, 'utf8')).slice(-400), /phase 3 ends\n.* errored: no\n/);
    const { size } = await stat(path);
    assert.ok(size > 64 * 2 ** 20 && size < 67 * 2 ** 20, String(size));
  } finally {
    await rm(directory, { recursive: true });
  }
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
