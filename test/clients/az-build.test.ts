/** A template that is really built, by the unmodified Azure CLI against `kiln serve`: the log is followed meanwhile, the artifacts are on the disk afterwards. */
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { list } from '../../src/images/store.ts';
import { run } from '../../src/processes/process.ts';
import { slotNumbers, tracesOf } from '../chaos/traces.ts';
import { type Az, type AzOutcome, azOf, type Printed } from './az.ts';
import { layGround } from './az-ground.ts';
import { type Rest, restOf } from './rest.ts';
import { type Served, serve } from './served.ts';
import { definitionId, GROUP, imageId, LOCATION, managedImage, templateFile, templateId } from './templates.ts';

const TAGS = { purpose: 'clients' };
const RUNS = 'api-version=2026-11-01';

describe('a build by az', () => {
  let served: Served;
  let az: Az;
  let rest: Rest;
  const builder = (...args: string[]) => az.json('image', 'builder', ...args);
  const runsOf = (name: string) => `${templateId(name)}/providers/Kiln.Builds/runs`;
  const latestRun = async (name: string): Promise<Printed> =>
    (await rest.send('GET', `${runsOf(name)}?${RUNS}`)).body.value[0];

  before(async () => {
    served = await serve();
    az = azOf(served);
    rest = await restOf(served);
    await layGround(az);
    await az.json('sig', 'create', '-g', GROUP, '--gallery-name', 'gallery');
    await az.json(
      ...['sig', 'image-definition', 'create', '-g', GROUP, '--gallery-name', 'gallery'],
      ...['--gallery-image-definition', 'hello', '--publisher', 'Example', '--offer', 'hello', '--sku', '12'],
      ...['--os-type', 'Linux', '--hyper-v-generation', 'V2'],
    );
  });
  after(async () => {
    rest?.close();
    const outcome = await served?.stop();
    assert.equal(outcome?.exitCode, 0, outcome?.stderr);
  });

  describe('to its end', () => {
    let building: Promise<AzOutcome>;
    before(async () => {
      const template = templateFile({
        inline: ['echo "fact user=$(id -un)"', 'echo built | sudo tee /etc/built-by-az >/dev/null'],
        distribute: [
          { ...managedImage('hello'), artifactTags: TAGS },
          { type: 'VHD', runOutputName: 'hello-disk', artifactTags: {} },
          {
            type: 'SharedImage',
            runOutputName: 'hello-version',
            galleryImageId: definitionId('gallery', 'hello'),
            replicationRegions: [LOCATION],
            artifactTags: {},
          },
        ],
      });
      const file = await az.file(template);
      await builder('create', '-g', GROUP, '-n', 'hello', '--image-template', file);
      building = az.run('image', 'builder', 'run', '-g', GROUP, '-n', 'hello');
      await eventually('the run begins', async () => (await latestRun('hello')) !== undefined);
    });
    after(async () => {
      await building;
    });

    test('shows that it is running', async () => {
      const { lastRunStatus } = await builder('show', '-g', GROUP, '-n', 'hello');
      assert.equal(lastRunStatus.runState, 'Running');
      assert.match(lastRunStatus.runSubState, /^(Queued|Building|Customizing|Optimizing|Validating|Distributing)$/);
      const state = await latestRun('hello');
      assert.equal(state.properties.state, 'Running');
    });

    test('streams its log to the end', async () => {
      const { name } = await latestRun('hello');
      const stream = await rest.open(`${runsOf('hello')}/${name}/log?${RUNS}&follow=true`);
      assert.equal(stream.statusCode, 200);
      assert.match(stream.headers['content-type']!, /^text\/event-stream/);
      const seen: Printed[] = [];
      let meanwhile: Printed;
      let event = 'message';
      for await (const line of createInterface({ input: stream })) {
        if (line.startsWith('event:')) event = line.slice(6).trim();
        if (line.startsWith('data:')) seen.push({ event, data: JSON.parse(line.slice(5)) });
        if (line === '') event = 'message';
        if (line.includes('fact user=')) meanwhile ??= await latestRun('hello');
      }
      const lines = seen.filter(one => one.event === 'message').map(({ data }) => data);
      assert.ok(lines.some(({ text }) => text === 'fact user=kiln'));
      const numbers = lines.map(({ seq }) => seq);
      assert.deepEqual(
        numbers,
        [...new Set(numbers)].sort((a, b) => a - b),
      );
      // The line came while the build went on, not with its end.
      assert.equal(meanwhile.properties.state, 'Running');
      const end = seen.at(-1)!;
      assert.deepEqual([end.event, end.data.state], ['end', 'Succeeded']);
    });

    test('az image builder run ends with it, and says nothing', async () => {
      const { exitCode, stdout, stderr } = await building;
      assert.deepEqual([exitCode, stdout], [0, ''], stderr);
      const { lastRunStatus, provisioningState } = await builder('show', '-g', GROUP, '-n', 'hello');
      assert.deepEqual(
        [provisioningState, lastRunStatus.runState, lastRunStatus.runSubState, lastRunStatus.message],
        ['Succeeded', 'Succeeded', null, ''],
      );
      assert.ok(Date.parse(lastRunStatus.endTime) > Date.parse(lastRunStatus.startTime));
    });

    test('show-runs names the artifacts; their files are in the region', async () => {
      const outputs: Printed[] = await builder('show-runs', '-g', GROUP, '-n', 'hello');
      const byName = new Map(outputs.map(output => [output.name, output]));
      assert.deepEqual([...byName.keys()].sort(), ['hello', 'hello-disk', 'hello-version']);
      for (const output of outputs) assert.equal(output.provisioningState, 'Succeeded');
      assert.equal(byName.get('hello').artifactId, imageId('hello'));
      assert.match(
        byName.get('hello-version').artifactId,
        new RegExp(`^${definitionId('gallery', 'hello')}/versions/\\d+\\.\\d+\\.\\d+$`),
      );
      assert.match(byName.get('hello-disk').artifactUri, /\.vhd$/);
      assert.equal(
        (await builder('show-runs', '-g', GROUP, '-n', 'hello', '--output-name', 'hello')).artifactId,
        imageId('hello'),
      );
      const stored = await list(served.home);
      assert.equal(stored.length, 3);
      for (const image of stored) {
        assert.equal(image.manifest.location, LOCATION);
        const { size } = await stat(image.path);
        assert.ok(size > 100 * 1024 * 1024, `${image.path} has ${size} bytes`);
        await run('qemu-img', ['info', image.path]);
      }
    });

    test('the artifacts are resources', async () => {
      const image = await az.json('resource', 'show', '--ids', imageId('hello'), '--api-version', '2022-08-01');
      assert.equal(image.tags.purpose, TAGS.purpose);
      assert.equal(image.properties.storageProfile.osDisk.osType, 'Linux');
      const which = ['-g', GROUP, '--gallery-name', 'gallery', '--gallery-image-definition', 'hello'];
      const versions: Printed[] = await az.json('sig', 'image-version', 'list', ...which);
      assert.deepEqual(
        versions.map(version => [version.provisioningState, version.publishingProfile.targetRegions.length]),
        [['Succeeded', 1]],
      );
    });

    test('the log is kept', async () => {
      const { name } = await latestRun('hello');
      const { status, body } = await rest.send('GET', `${runsOf('hello')}/${name}/log?${RUNS}`);
      assert.equal(status, 200);
      assert.match(body, new RegExp(`^\\[${name}\\] PACKER OUT {5}azure-arm: fact user=kiln$`, 'm'));
    });
  });

  test('a failed build: az says which step, and ends with 1', async () => {
    const template = templateFile({ inline: ['echo about to fail', 'exit 7'], distribute: [managedImage('never')] });
    const file = await az.file(template);
    await builder('create', '-g', GROUP, '-n', 'fails', '--image-template', file);
    const { exitCode, stderr } = await az.run('image', 'builder', 'run', '-g', GROUP, '-n', 'fails');
    assert.equal(exitCode, 1, stderr);
    const { lastRunStatus } = await builder('show', '-g', GROUP, '-n', 'fails');
    assert.equal(lastRunStatus.runState, 'Failed');
    for (const said of [stderr, lastRunStatus.message]) {
      assert.match(said, /Packer build command has failed: exit status 1/);
      assert.match(said, /exit code 7/);
      assert.match(said, /about to fail/);
    }
    assert.deepEqual(await builder('show-runs', '-g', GROUP, '-n', 'fails'), []);
  });

  test('cancel in a build: its machine is stopped', async t => {
    const template = templateFile({ inline: ['echo the step runs', 'sleep 600'], distribute: [managedImage('never')] });
    const file = await az.file(template);
    await builder('create', '-g', GROUP, '-n', 'endless', '--image-template', file);
    await builder('run', '-g', GROUP, '-n', 'endless', '--no-wait');
    const { name } = await latestRun('endless');
    const log = `${runsOf('endless')}/${name}/log?${RUNS}`;
    await eventually('the step runs', async () => /the step runs/.test((await rest.send('GET', log)).body ?? ''));
    const slots = await slotNumbers(served.home, name);
    assert.equal(slots.length, process.getuid?.() === 0 ? 1 : 0);
    const asked = Date.now();
    await builder('cancel', '-g', GROUP, '-n', 'endless');
    const answered = Date.now();
    const state = async () =>
      (await rest.send('GET', `${templateId('endless')}?api-version=2022-02-14`)).body.properties.lastRunStatus
        .runState;
    assert.match(await state(), /^Cancel(ing|ed)$/);
    await eventually('the run ends', async () => (await state()) !== 'Canceling');
    t.diagnostic(
      `Canceled ${Date.now() - answered} ms after az had its answer, ${Date.now() - asked} ms after az was started.`,
    );
    assert.equal(await state(), 'Canceled');
    assert.deepEqual(await tracesOf(served.home, name, slots), []);
  });
});

/** Looks until it is so. What never comes is ended by the runner's own limit, with `what` printed. */
async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  const limit = AbortSignal.timeout(600_000);
  while (!(await holds())) {
    if (limit.aborted) throw new Error(`not within ten minutes: ${what}`);
    await sleep(200);
  }
}
