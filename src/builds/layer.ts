/** The key of a layer: the hash of its parent's key and of everything that can change what the phase makes of it. */
import { type Canonical, hashCanonical } from '../disks/canonical.ts';
import type { PhasePlan } from './phase.ts';

/**
 * Part of every key. Raise it when Kiln itself makes something else of the same inputs: all older layers are then
 * passed over, once and on purpose.
 */
export const HASHING_VERSION = 1;

/** @returns lower-case hex SHA-256. `parent` is the empty string for the first phase. */
export function layerKey(parent: string, phase: PhasePlan): string {
  return hashCanonical({ version: HASHING_VERSION, parent, kind: phase.kind, inputs: phase.inputs as Canonical });
}
