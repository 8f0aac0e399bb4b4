import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { KilnError } from '../arm/errors.ts';
import { IMAGE_BUILDER_API_VERSIONS } from '../providers/image-builder/api-versions.ts';
import { validateTemplate } from '../providers/image-builder/validate.ts';
import { decodeText, MAX_JSON_BYTES, MAX_JSON_DEPTH, readJsonText } from './json-text.ts';
import { parseTemplateFile, readTemplateFile } from './template-file.ts';

const parse = (text: string, set: Record<string, string> = {}) =>
  parseTemplateFile(text, { path: '/t/web/template.json', set });
const failure = (run: () => unknown): KilnError => {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof KilnError, String(error));
    return error;
  }
  throw new Error('no error');
};
const syntax = (text: string): string => failure(() => readJsonText(text, 't.json')).message;

test('every syntax error has line, column and plain words', () => {
  assert.equal(syntax('{\n  "a": 1\n  "b": 2\n}'), 't.json:3:3: expected a comma between properties or items');
  assert.equal(syntax('{\n  "a": 1,\n}'), "t.json:2:9: a comma before the closing '}'; JSON has none there");
  assert.equal(syntax('[1, // one\n ]'), "t.json:1:3: a comma before the closing ']'; JSON has none there");
  assert.equal(syntax('{ "a" 1 }'), "t.json:1:7: expected a ':' after the property's name");
  assert.equal(
    syntax('{ a: 1 }'),
    "t.json:1:3: 'a' is not JSON; names and texts stand in double quotes, and words are true, false and null",
  );
  assert.equal(syntax('{ "a": "x\n }').split(': ')[1], 'this string has no closing quote on its line');
  assert.equal(syntax('{ "a": [1, 2 '), "t.json:1:14: expected ']', found the end of the file");
  assert.equal(syntax('{} {}'), "t.json:1:4: expected the end of the file after the value, found '{'");
  assert.equal(syntax('{ "a": }'), "t.json:1:8: expected a value, found '}'");
  assert.equal(syntax('{ "a": "\\q" }').split(': ')[1], 'this string has a bad escape; write a backslash as \\\\');
  assert.equal(syntax(''), 't.json:1:1: expected a value, found the end of the file');
});

test('several slips are all told', () => {
  const error = failure(() => readJsonText('{ "a" 1,\n "b": tru,\n "c": 3\n "d": 4 }', 't.json'));
  assert.deepEqual(
    error.details.map(detail => detail.target),
    ['t.json:1:7', 't.json:2:7', 't.json:4:2'],
  );
});

test('a property that stands twice is refused with both lines', () => {
  assert.equal(
    syntax('{\n "a": 1,\n "b": 2,\n "a": 3 }'),
    't.json:4:2: the property "a" stands here a second time; it is on line 2 already',
  );
});

test('comments, a byte order mark and CRLF are taken', () => {
  const read = readJsonText('\uFEFF// first\r\n{ /* a */ "a": 1,\r\n  "b": [true] }', 't.json');
  assert.deepEqual(read.value, { a: 1, b: [true] });
  assert.deepEqual(read.locate('b'), { line: 3, column: 3 });
  assert.deepEqual(readJsonText(decodeText(Buffer.from('\uFEFF{"a":"ü"}', 'utf16le'), 't'), 't').value, { a: 'ü' });
});

test('bad encodings, depth and size are refused', () => {
  assert.match(
    failure(() => decodeText(Buffer.from([0x7b, 0xff, 0x7d]), 't.json')).message,
    /^t\.json is not text in UTF-8/,
  );
  assert.match(failure(() => decodeText(Buffer.alloc(MAX_JSON_BYTES + 1), 't.json')).message, /bytes/);
  assert.equal(
    syntax('['.repeat(200_000)),
    `t.json:1:${MAX_JSON_DEPTH + 1}: nested more than ${MAX_JSON_DEPTH} levels deep`,
  );
  assert.ok(readJsonText('['.repeat(MAX_JSON_DEPTH) + ']'.repeat(MAX_JSON_DEPTH), 't.json'));
});

test('property: any JSON value round-trips', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 8 }), fc.constantFrom(0, 1, 2), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      assert.deepEqual(readJsonText(text, 't.json').value, JSON.parse(text));
    }),
  );
});

test('property: every property is located where its name stands', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()), dictionary => {
      const text = JSON.stringify(dictionary, null, 2);
      const read = readJsonText(text, 't.json');
      for (const key of Object.keys(JSON.parse(text) as object)) {
        const { line, column } = read.locate([key]);
        const rest = text.split('\n')[line - 1]!.slice(column - 1);
        assert.ok(rest.startsWith(`${JSON.stringify(key)}: `), rest);
      }
    }),
  );
});

const TEMPLATE = `{
  "type": "Microsoft.VirtualMachineImages",
  "apiVersion": "2022-07-01",
  "location": "<region>",
  "tags": { "a<b>": "<region> <b>" },
  "properties": {
    "source": { "type": "PlatformImage", "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest" },
    "customize": [
      { "type": "Shell", "scriptUri": "setup.sh" },
      { "type": "File", "sourceUri": "../files/a b.txt", "destination": "/tmp/a" },
      { "type": "Shell", "inline": ["echo '<html>' > /index.html", "hostname <region>"] }
    ],
    "distribute": [
      { "type": "VHD" }
    ]
  }
}
`;

test('placeholders are filled in values, names and inline lines', () => {
  const file = parse(TEMPLATE, { region: 'eastus', b: 'B' });
  assert.equal(file.body.location, 'eastus');
  assert.deepEqual(file.body.tags, { aB: 'eastus B' });
  assert.deepEqual(file.placeholders, ['b', 'region']);
  assert.deepEqual((file.body.properties as { customize: { inline: string[] }[] }).customize[2]!.inline, [
    "echo '<html>' > /index.html",
    'hostname eastus',
  ]);
});

test('placeholders that nothing fills, and --set that fills nothing, are listed', () => {
  const missing = failure(() => parse(TEMPLATE));
  assert.equal(
    missing.message,
    '/t/web/template.json has placeholders that nothing fills: <region> (line 4), <b> (line 5).',
  );
  assert.equal(missing.hint, 'Add --set region=VALUE --set b=VALUE');
  assert.match(
    failure(() => parse(TEMPLATE, { region: 'x', b: 'y', colour: 'z' })).message,
    /no placeholder <colour> for --set/,
  );
  assert.match(failure(() => parse(TEMPLATE, { b: 'y', toString: 'z', region: 'r' })).message, /<toString>/);
});

test('local paths are relative to the template and become file: URLs', () => {
  const { customize } = parse(TEMPLATE, { region: 'eastus', b: '' }).body.properties as {
    customize: Record<string, string>[];
  };
  assert.equal(customize[0]!.scriptUri, 'file:///t/web/setup.sh');
  assert.equal(customize[1]!.sourceUri, 'file:///t/files/a%20b.txt');
  assert.ok(!('sourceUri' in customize[0]!));
});

test('violations are located: what is there by its name, what is missing by its owner', () => {
  const file = parse(TEMPLATE, { region: 'eastus', b: 'B' });
  const { violations } = validateTemplate(file.body, {
    apiVersion: '2022-07-01',
    localFiles: true,
    identityOptional: true,
  });
  assert.deepEqual(
    violations.map(violation => violation.path),
    ['properties.distribute[0].runOutputName'],
  );
  assert.deepEqual(file.locate('properties.distribute[0].runOutputName'), { line: 14, column: 7 });
  assert.deepEqual(file.locate('tags.aB'), { line: 5, column: 13 });
  assert.deepEqual(file.locate('no such path!'), { line: 1, column: 1 });
});

test('names come from the template, its file, or its directory', () => {
  const named = (path: string, name?: string) =>
    parseTemplateFile(JSON.stringify({ properties: {}, ...(name && { name }) }), { path }).name;
  assert.equal(named('/t/web/template.json', 'mine'), 'mine');
  assert.equal(named('/t/web/template.json'), 'web');
  assert.equal(named('/t/web/hello linux.json'), 'hello-linux');
  assert.equal(named('/template.json'), 'template');
});

test('other JSON than an image template is recognised', () => {
  const refusal = (value: unknown) => failure(() => parse(JSON.stringify(value))).message;
  assert.match(
    refusal({
      $schema: 'https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#',
      resources: [],
    }),
    /ARM deployment template/,
  );
  assert.match(refusal({ resources: {} }), /ARM deployment template/);
  assert.match(
    refusal({ type: 'Microsoft.Compute/images', properties: {} }),
    /the type is "Microsoft\.Compute\/images"/,
  );
  assert.match(refusal([1]), /is an object/);
  assert.match(refusal({ Name: 'role' }), /no 'properties'/);
});

test('files that cannot be read are told apart', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'kiln-template-'));
  try {
    await assert.rejects(readTemplateFile(join(directory, 'none.json')), {
      code: 'TemplateUnreadable',
      message: /there is no such file/,
    });
    await assert.rejects(readTemplateFile(directory), { code: 'TemplateUnreadable', message: /it is a directory/ });
    writeFileSync(join(directory, 'a.json'), TEMPLATE);
    assert.equal((await readTemplateFile(join(directory, 'a.json'), { set: { region: 'eastus', b: '' } })).name, 'a');
    writeFileSync(join(directory, 'a.bicep'), "resource a 'x' = {}");
    await assert.rejects(readTemplateFile(join(directory, 'a.bicep')), /Bicep/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('property: a damaged template is read or refused, never anything else', () => {
  fc.assert(
    fc.property(
      fc.nat(TEMPLATE.length),
      fc.nat(6),
      fc.oneof(fc.string(), fc.constantFrom('{', '}', '"', ',', '[', '/*', '\\', '<x>', '\0')),
      (at, length, insert) => {
        const text = TEMPLATE.slice(0, at) + insert + TEMPLATE.slice(at + length);
        try {
          const file = parse(text, { region: 'eastus', b: 'B' });
          for (const apiVersion of IMAGE_BUILDER_API_VERSIONS)
            for (const violation of validateTemplate(file.body, { apiVersion }).violations)
              assert.ok(file.locate(violation.path).line >= 1);
        } catch (error) {
          assert.ok(error instanceof KilnError, String(error));
        }
      },
    ),
    { numRuns: 500 },
  );
});

const REAL = fileURLToPath(new URL('../../../shared/templates', import.meta.url));

test("Microsoft's own templates are read, and are valid or wrong for a known reason", {
  skip: !existsSync(REAL) && 'the templates are not here',
}, () => {
  const set: Record<string, string> = {
    region1: 'eastus',
    region2: 'westus2',
    region: 'eastus',
    subscriptionID: '11111111-2222-3333-4444-555555555555',
    rgName: 'group',
    imageName: 'image',
    runOutputName: 'out',
    imgBuilderId: '/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i',
    sharedImageGalName: 'gallery',
    acgName: 'gallery',
    imageDefName: 'definition',
    srcImageName: 'source',
    scriptUrl: 'https://h/s.sh',
    sigDefImgVersionId:
      '/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/g/images/d/versions/1.0.0',
    vnetName: 'v',
    subnetName: 's',
    vnetRgName: 'vr',
  };
  const results: Record<string, string> = {};
  for (const name of readdirSync(REAL, { recursive: true, encoding: 'utf8' }).filter(one => one.endsWith('.json'))) {
    const text = readFileSync(join(REAL, name), 'utf8');
    const names = new Set([...text.matchAll(/<([A-Za-z][A-Za-z0-9_-]*)>/g)].map(match => match[1]!));
    const wanted = Object.fromEntries(Object.entries(set).filter(([key]) => names.has(key)));
    try {
      const file = parseTemplateFile(text, { path: name, set: wanted });
      const { violations } = validateTemplate(file.body, { apiVersion: file.apiVersion ?? '2022-07-01' });
      results[name] = violations.map(violation => violation.path).join() || 'valid';
    } catch (error) {
      assert.ok(error instanceof KilnError, `${name}: ${error}`);
      results[name] = error.message;
    }
  }
  assert.ok(Object.values(results).filter(result => result === 'valid').length >= 8);
});
