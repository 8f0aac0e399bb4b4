/** The key of a layer: the hash of its parent's key and of everything that can change what the phase makes of it. */
import { type Canonical, hashCanonical } from '../disks/canonical.ts';
import type { PhasePlan } from './phase.ts';

/**
 * Part of every key. Raise it when Kiln itself makes something else of the same inputs: all older layers are then
 * passed over, once and on purpose. What it runs in a guest around a step is among the step's inputs, and needs no raise.
 */
export const HASHING_VERSION = 2;

/** @returns lower-case hex SHA-256. `parent` is the empty string for the first phase. */
export function layerKey(parent: string, phase: PhasePlan): string {
  return hashCanonical({ version: HASHING_VERSION, parent, kind: phase.kind, inputs: phase.inputs as Canonical });
}

/**
 * The keys of all phases, once the first has run: what a source turned out to be is its key.
 * @param source what the keys after the first build on
 */
export function keysOf(phases: readonly PhasePlan[], source: string): string[] {
  const keys = [source];
  for (const phase of phases.slice(1)) keys.push(layerKey(keys.at(-1)!, phase));
  return keys;
}

/** What the first phase gives to the keys after it. */
export function sourceKey(phase: PhasePlan, content: Readonly<Record<string, unknown>>): string {
  return layerKey('', { ...phase, inputs: content });
}
