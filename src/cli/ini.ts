/** INI files of az: a few keys of one section are set, everything else stays as somebody wrote it. */

export function setIni(text: string, section: string, values: Readonly<Record<string, string>>): string {
  const lines = text === '' ? [] : text.replace(/\n+$/, '').split('\n');
  const isHead = (line: string) => /^\s*\[.*\]\s*$/.test(line);
  let start = lines.findIndex(line => line.trim() === `[${section}]`);
  if (start === -1) {
    if (lines.length > 0) lines.push('');
    start = lines.push(`[${section}]`) - 1;
  }
  for (const [key, value] of Object.entries(values)) {
    const next = lines.findIndex((line, index) => index > start && isHead(line));
    const end = next === -1 ? lines.length : next;
    const at = lines.findIndex((line, index) => index > start && index < end && keyOf(line) === key.toLowerCase());
    if (at !== -1) lines[at] = `${key} = ${value}`;
    else {
      const last = lines.findLastIndex((line, index) => index < end && line.trim() !== '');
      lines.splice(last + 1, 0, `${key} = ${value}`);
    }
  }
  return `${lines.join('\n')}\n`;
}

export function getIni(text: string, section: string, key: string): string | undefined {
  let inside = false;
  for (const line of text.split('\n')) {
    if (/^\s*\[.*\]\s*$/.test(line)) inside = line.trim() === `[${section}]`;
    else if (inside && keyOf(line) === key.toLowerCase()) return line.slice(line.search(/[=:]/) + 1).trim();
  }
  return undefined;
}

/** undefined for comments and lines without a value. */
const keyOf = (line: string): string | undefined => /^\s*([^#;=:\s][^=:]*?)\s*[=:]/.exec(line)?.[1]?.toLowerCase();
