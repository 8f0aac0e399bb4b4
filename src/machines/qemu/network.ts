/**
 * The network of a machine. QEMU's user-mode network makes the guest's connections with the QEMU process's own `connect()`:
 * what that process cannot reach, the guest cannot reach either. As root it therefore lives in a network namespace of the
 * machine's own, whose only link leads to the host, where rules let it out but not in.
 */
import { constants } from 'node:fs';
import { access, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { run } from '../../processes/process.ts';
import { findProgram } from './accelerator.ts';
import { claimSlot, releaseSlot, SLOT_PREFIX, type Slot } from './slot.ts';

export interface MachineNetwork {
  /** Whether the guest is kept away from the host and other builds. */
  readonly isolated: boolean;
  /** The namespace to run QEMU in. */
  readonly namespace?: string;
  /** Where the guest's SSH port appears on the host: port 0 means that QEMU picks one. */
  readonly address: string;
  readonly port: number;
}

export const SSH_FORWARD_PORT = 2222;

/** The guest reaches the host's own loopback through 10.0.2.2 here, which is why this is not the default. */
const SHARED: MachineNetwork = Object.freeze({ isolated: false, address: '127.0.0.1', port: 0 });

export interface OpenedNetwork {
  readonly network: MachineNetwork;
  /** Root only. */
  readonly slot?: Slot;
  /** Takes down what was set up, and gives the slot back. Safe more than once. */
  readonly close: () => Promise<void>;
}

export interface NetworkOptions {
  /** Finds out whether IPv4 forwarding could be switched on, and leaves it as it is: the network works up to the host then. */
  readonly tryOnly?: boolean;
  /** Called as soon as the namespace is there and this machine's own; what is left needs none of the caller's patience. */
  readonly onNamespace?: () => void;
}

/**
 * Sets up the network for one machine of a run's directory: isolated where possible; otherwise the reason is reported.
 * The slot is claimed in any case under root, because it also gives the user id that QEMU runs under.
 */
export async function openNetwork(
  directory: string,
  report: (line: string) => void,
  options: NetworkOptions = {},
): Promise<OpenedNetwork> {
  const off = (reason: string) =>
    report(`Network isolation is off: ${reason} The guest can reach services of this host and its network.`);
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    off('only root on Linux can make network namespaces.');
    return { network: SHARED, close: async () => {} };
  }
  for (let from = 0; ; ) {
    const slot = await claimSlot(directory, from);
    const close = () => closeSlot(slot);
    try {
      const missing = await firstMissing(['ip', 'nft', 'setpriv']);
      if (missing !== undefined) {
        off(`${missing} is not installed.`);
        return { network: SHARED, slot, close };
      }
      const outcome = await build(slot, report, options);
      if (outcome === 'built') {
        const network = { isolated: true, namespace: slot.name, address: slot.address, port: SSH_FORWARD_PORT };
        return { network, slot, close };
      }
      if (outcome === 'taken') {
        await releaseSlot(slot);
        from = slot.number + 1;
        continue;
      }
      off(`no network namespace can be set up here (${outcome.problem}).`);
      return { network: SHARED, slot, close: () => releaseSlot(slot) };
    } catch (error) {
      await close();
      throw error;
    }
  }
}

/** Takes down a slot's network and gives the slot back; idempotent. Its processes must have ended. */
export async function closeSlot(slot: Slot): Promise<void> {
  await removeNetwork(slot);
  await releaseSlot(slot);
}

const ANY_CODE = [0, 1, 2, 255];

async function removeNetwork(slot: Slot): Promise<void> {
  if ((await firstMissing(['ip', 'nft'])) !== undefined) return;
  await run('ip', ['link', 'delete', slot.name], { ok: ANY_CODE });
  await run('ip', ['netns', 'delete', slot.name], { ok: ANY_CODE });
  // nftables has no "delete if there": adding first makes it so, in one transaction.
  await run('nft', ['-f', '-'], {
    input: `add table inet ${slot.name}\ndelete table inet ${slot.name}\n`,
    ok: ANY_CODE,
  });
  await rm(netnsDirectory(slot), { recursive: true, force: true });
}

type Outcome = 'built' | 'taken' | { readonly problem: string };

/**
 * Sets up a slot's network. Claims are files, and a container may share the host's network but not its files: the namespace and the link are
 * therefore claimed once more, by making them, and what somebody else made is never touched.
 */
async function build(slot: Slot, report: (line: string) => void, options: NetworkOptions): Promise<Outcome> {
  const namespace = await attempt('ip', ['netns', 'add', slot.name]);
  if (namespace !== undefined) return refusal(namespace);
  const link = await attempt('ip', [
    'link',
    'add',
    slot.name,
    'type',
    'veth',
    'peer',
    'name',
    'eth0',
    'netns',
    slot.name,
  ]);
  if (link !== undefined) {
    await run('ip', ['netns', 'delete', slot.name], { ok: ANY_CODE });
    return refusal(link);
  }
  options.onNamespace?.();
  const resolvers = await outsideResolvers();
  await mkdir(netnsDirectory(slot), { recursive: true });
  await writeFile(resolvConfOf(slot), resolvers.map(ip => `nameserver ${ip}\n`).join(''));
  if (resolvers.length === 0)
    report("The host's name servers are on the host itself, which the guest may not reach: the guest has no DNS.");
  const problem =
    // The rules come first: there is no moment in which the link is up without them.
    (await attempt(
      'nft',
      ['-f', '-'],
      `add table inet ${slot.name}\ndelete table inet ${slot.name}\n${rules(slot)}`,
    )) ??
    (await attempt('ip', ['-batch', '-'], hostLink(slot))) ??
    (await attempt('ip', ['-n', slot.name, '-batch', '-'], namespaceLink(slot))) ??
    (await forward(report, options));
  if (problem === undefined) return 'built';
  await removeNetwork(slot);
  return { problem };
}

const refusal = (problem: string): Outcome => (/File exists/.test(problem) ? 'taken' : { problem });

/** @returns the last words of a program that failed. */
async function attempt(program: string, args: readonly string[], input?: string): Promise<string | undefined> {
  const done = await run(program, args, { ok: ANY_CODE, ...(input !== undefined && { input }) });
  return done.exitCode === 0 ? undefined : lastLine(done.stderr);
}

function hostLink(slot: Slot): string {
  return [
    `link set ${slot.name} addrgenmode none`,
    `address add ${slot.hostAddress}/${slot.prefixLength} dev ${slot.name}`,
    `link set ${slot.name} up`,
    '',
  ].join('\n');
}

function namespaceLink(slot: Slot): string {
  return [
    'link set lo up',
    'link set eth0 addrgenmode none',
    `address add ${slot.address}/${slot.prefixLength} dev eth0`,
    'link set eth0 up',
    `route add default via ${slot.hostAddress}`,
    '',
  ].join('\n');
}

/**
 * nftables rules of one slot, in a table of its own, so that no machine's end can take away another's rules. They run before the host's
 * own filter. 168.63.129.16 and 169.254.0.0/16 are the wire server and metadata services of the cloud the host may itself be in.
 */
export function rules(slot: Slot): string {
  const link = `"${slot.name}"`;
  return `table inet ${slot.name} {
  chain input {
    type filter hook input priority filter - 10; policy accept;
    iifname ${link} meta nfproto ipv4 ct state established accept
    iifname ${link} drop
  }
  chain forward {
    type filter hook forward priority filter - 10; policy accept;
    iifname ${link} meta nfproto ipv6 drop
    iifname ${link} oifname "${SLOT_PREFIX}*" drop
    iifname ${link} ip daddr { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 168.63.129.16, 224.0.0.0/3 } drop
    iifname ${link} ip saddr != ${slot.address} drop
    tcp flags syn / syn,rst tcp option maxseg size set rt mtu
    oifname ${link} ct state established,related accept
    oifname ${link} drop
  }
  chain output {
    type filter hook output priority filter - 10; policy accept;
    oifname ${link} meta nfproto ipv6 drop
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${slot.address} oifname != ${link} masquerade
  }
}
`;
}

const FORWARDING = '/proc/sys/net/ipv4/ip_forward';

async function forward(report: (line: string) => void, { tryOnly }: NetworkOptions): Promise<string | undefined> {
  if ((await readFile(FORWARDING, 'utf8')).trim() !== '1') {
    try {
      if (tryOnly) await access(FORWARDING, constants.W_OK);
      else await writeFile(FORWARDING, '1');
    } catch (error) {
      return `IPv4 forwarding cannot be switched on: ${(error as Error).message}`;
    }
    if (tryOnly) return undefined;
    report('Switched on IPv4 forwarding on this host (net.ipv4.ip_forward): the guest reaches the outside through it.');
  }
  const filter = await run('nft', ['list', 'chain', 'ip', 'filter', 'FORWARD'], { ok: ANY_CODE });
  if (/policy drop/.test(filter.stdout))
    report(
      "The host's firewall drops forwarded packets (Docker sets it so): if the guest has no network, allow it with " +
        `\`iptables -I FORWARD -i ${SLOT_PREFIX}+ -j ACCEPT; iptables -I FORWARD -o ${SLOT_PREFIX}+ -j ACCEPT\`.`,
    );
  return undefined;
}

/** Name servers that a namespace can reach: IPv4, and not an address of this host. */
async function outsideResolvers(): Promise<string[]> {
  const own = new Set(Object.values(os.networkInterfaces()).flatMap(list => (list ?? []).map(entry => entry.address)));
  // systemd-resolved puts itself on 127.0.0.53 and its upstream servers into the second file.
  for (const file of ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf']) {
    const found = reachable(await readFile(file, 'utf8').catch(() => ''), own);
    if (found.length > 0) return found;
  }
  return [];
}

/** The IPv4 name servers in the text of a resolv.conf that are neither loopback nor in `own`. */
export function reachable(resolvConf: string, own: ReadonlySet<string>): string[] {
  return [...resolvConf.matchAll(/^\s*nameserver\s+(\d+\.\d+\.\d+\.\d+)\s*$/gm)]
    .map(match => match[1]!)
    .filter(ip => !ip.startsWith('127.') && !own.has(ip));
}

async function firstMissing(programs: readonly string[]): Promise<string | undefined> {
  for (const program of programs) {
    try {
      await findProgram(program);
    } catch {
      return program;
    }
  }
  return undefined;
}

const netnsDirectory = (slot: Slot): string => path.join('/etc/netns', slot.name);

/** The name servers that can be reached from a slot's namespace, as a file for its guest. */
export const resolvConfOf = (slot: Slot): string => path.join(netnsDirectory(slot), 'resolv.conf');
const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? '';
