/** Templates that cannot be built: refused by the real command line before anything is made. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { kiln } from '../kiln.ts';
import { assertError, errorOf, goodTemplate, positionOf, type Template, writeTemplate } from './bad-input.ts';

let directory: string;
let home: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-templates-'));
  home = join(directory, 'home');
});

after(async () => {
  assert.ok(!existsSync(home), 'a template that is refused makes no state directory');
  await rm(directory, { recursive: true, force: true });
});

const build = (path: string, ...args: string[]) => kiln(['--home', home, 'build', path, ...args]);

async function write(name: string, content: string | Buffer): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, content);
  return path;
}

describe('a template file', { concurrency: 2 }, () => {
  test('that is not there, or is a directory', async () => {
    const missing = join(directory, 'missing.json');
    assertError(await build(missing), 'usage', /missing\.json cannot be read: there is no such file/);
    assert.equal(errorOf(await build(missing, '--json'), 'TemplateUnreadable').target, missing);
    await mkdir(join(directory, 'folder'));
    assertError(await build(join(directory, 'folder')), 'usage', /it is a directory; name the template file in it/);
  });

  test('that is no JSON: each syntax error with its line and column', async () => {
    const good = JSON.stringify(goodTemplate(), null, 2);
    const path = await write('syntax.json', good.replace('"westeurope",', '"westeurope"').replace('"VHD",', "'VHD',"));
    const text = await readFile(path, 'utf8');
    const outcome = await build(path);
    assertError(outcome, 'usage', /2 problems/, new RegExp(`syntax\\.json:${positionOf(text, "'VHD'")}`));
    const { details } = errorOf(await build(path, '--json'), 'InvalidRequestContent');
    assert.equal(details?.length, 2);
    // A comma is missed where the next thing stands, or where the last one ended.
    assert.match(details![0]!.target!, /syntax\.json:5:27$|syntax\.json:6:3$/);
  });

  test('that is cut off, empty, or bytes of something else', async () => {
    const good = JSON.stringify(goodTemplate(), null, 2);
    assertError(await build(await write('cut.json', good.slice(0, 200))), 'usage', /cut\.json:\d+:\d+/);
    assertError(
      await build(await write('empty.json', '')),
      'usage',
      /empty\.json:1:1: expected a value, found the end of the file/,
    );
    const binary = await write('binary.json', Buffer.from([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3, 0xff, 0xff]));
    assertError(await build(binary), 'usage', /binary\.json is not text in UTF-8/);
  });

  test('that says a thing twice', async () => {
    const good = JSON.stringify(goodTemplate(), null, 2);
    const path = await write('twice.json', good.replace('"name": "bad-input",', '"name": "a",\n  "name": "b",'));
    const at = positionOf(await readFile(path, 'utf8'), '"name": "b"');
    assertError(
      await build(path),
      'usage',
      new RegExp(`twice\\.json:${at}: the property "name" stands here a second time`),
    );
  });

  test('of another kind: a deployment, Bicep', async () => {
    const deployment = { $schema: 'https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#' };
    const path = await write('deployment.json', JSON.stringify({ ...deployment, resources: [goodTemplate()] }));
    assertError(await build(path), 'usage', /ARM deployment template/, /hint: /);
    assertError(await build(await write('main.bicep', 'resource t')), 'usage', /Bicep/, /bicep build/);
  });
});

describe('a template', { concurrency: 2 }, () => {
  const spoil = (name: string, change: (template: Template) => void) => writeTemplate(directory, name, change);

  test('with several violations: all of them at once, each with its JSON path and its place', async () => {
    const path = await spoil('violations', template => {
      Object.assign(template, { location: 'mars' });
      template.properties.customize[0]!.inlin = [];
      template.properties.customize.push({ type: 'Shell', inline: ['true'], scriptUri: 'https://example.org/s.sh' });
      delete template.properties.distribute[0]!.runOutputName;
      template.properties.buildTimeoutInMinutes = 3;
      template.properties.vmProfile.osDiskSizeGB = 'big';
    });
    const text = await readFile(path, 'utf8');
    const error = errorOf(await build(path, '--json'), 'ValidationFailed');
    const paths: Record<string, string> = {
      location: '"location"',
      'properties.customize[0].inlin': '"inlin"',
      'properties.customize[1]':
        '{\n        "type": "Shell",\n        "inline": [\n          "true"\n        ],\n        "scriptUri"',
      'properties.distribute[0].runOutputName': '{\n        "type": "VHD"',
      'properties.buildTimeoutInMinutes': '"buildTimeoutInMinutes"',
      'properties.vmProfile.osDiskSizeGB': '"osDiskSizeGB"',
    };
    assert.deepEqual(
      error.details?.map(detail => detail.target).sort(),
      Object.entries(paths)
        .map(([json, part]) => `${path}:${positionOf(text, part)} (${json})`)
        .sort(),
    );
    const outcome = await build(path);
    assertError(outcome, 'usage', /error: 6 problems:/);
    for (const json of Object.keys(paths)) assert.ok(outcome.stderr.includes(`(${json}): `), json);
  });

  test('of an api-version that is none', async () => {
    const path = await spoil('version', template => Object.assign(template, { apiVersion: '2031-01-01' }));
    assertError(await build(path), 'usage', /2031-01-01/, /2024-02-01/);
  });

  test('with placeholders that nothing fills, and --set for what is not there', async () => {
    const path = await spoil('placeholders', template => {
      Object.assign(template, { location: '<region>' });
      template.properties.distribute[0]!.runOutputName = '<output>';
      // In a script the same signs are a redirection.
      template.properties.customize[0]!.inline = ['sort <list >sorted'];
    });
    assertError(
      await build(path),
      'usage',
      /placeholders that nothing fills: <region> \(line 5\), <output> \(line \d+\)/,
      /Add --set region=VALUE --set output=VALUE/,
    );
    const other = await build(path, '--set', 'region=westus', '--set', 'output=o', '--set', 'regoin=x');
    assertError(other, 'usage', /no placeholder <regoin>/, /<output>, <region>|<region>, <output>/);
    assertError(await build(path, '--set', 'region'), 'usage', /--set takes name=value, not "region"/);
  });

  test('with parts that this version cannot build: all of them at once, none skipped', async () => {
    const path = await spoil('unsupported', template => {
      template.properties.customize.push({ type: 'PowerShell', name: 'iis', inline: ['Install-WindowsFeature'] });
      template.properties.customize.push({ type: 'WindowsRestart' });
      template.properties.validate = { inVMValidations: [{ type: 'PowerShell', inline: ['exit 0'] }] };
      template.properties.vmProfile.vmSize = 'Standard_D2s_v33';
    });
    const error = errorOf(await build(path, '--json'), 'NotSupported');
    const text = await readFile(path, 'utf8');
    assert.deepEqual(error.details?.map(detail => /\((.*)\)$/.exec(detail.target!)?.[1]).sort(), [
      'properties.customize[1]',
      'properties.customize[2]',
      'properties.validate.inVMValidations[0]',
      'properties.vmProfile.vmSize',
    ]);
    for (const detail of error.details!) assert.ok(detail.hint, detail.message);
    const size = error.details!.find(detail => detail.target?.includes('vmSize'));
    assert.equal(size?.target, `${path}:${positionOf(text, '"vmSize"')} (properties.vmProfile.vmSize)`);
    assert.match(size?.hint ?? '', /Standard_D2s_v3\b/);
    assertError(await build(path), 'usage', /error: 4 problems:/, /customizer PowerShell \("iis"\) is for Windows/);
  });

  test('whose scripts and files are not on this host', async () => {
    const path = await spoil('files', template => {
      template.properties.customize = [
        { type: 'Shell', scriptUri: './no-such-script.sh' },
        { type: 'File', sourceUri: 'file://server/share/file.bin', destination: '/tmp/' },
      ];
      template.apiVersion = '2025-10-01';
      template.properties.optimize = { workload: { state: 'Enabled', scriptUri: './no-such-load.sh' } };
    });
    const error = errorOf(await build(path, '--json'), 'ValidationFailed');
    assert.deepEqual(
      error.details?.map(detail => detail.message),
      [
        `There is no readable file ${join(directory, 'no-such-script.sh')}.`,
        'There is no readable file file://server/share/file.bin.',
        `There is no readable file ${join(directory, 'no-such-load.sh')}.`,
      ],
    );
    assertError(await build(path), 'usage', /customize\[1\]\.sourceUri\)/, /relative to the template file/);
  });

  test('with one problem is told of in one sentence, its place and what to do', async () => {
    const path = await spoil('one', template => {
      template.properties.vmProfile.vmSize = 'Standard_Zaphod';
    });
    const outcome = await build(path);
    assertError(
      outcome,
      'usage',
      new RegExp(`at: .*${basename(path)}:\\d+:\\d+ \\(properties\\.vmProfile\\.vmSize\\)`),
    );
    assert.equal(outcome.stderr.match(/Zaphod/g)?.length, 1, outcome.stderr);
  });
});
