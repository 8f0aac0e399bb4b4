/** A run as JSON: more than `lastRunStatus` has room for. Times are ISO 8601, durations seconds, sizes bytes. */
import { publicError } from '../../arm/public-error.ts';
import type { PhaseRow, RunOutputRow, RunRow } from '../../database/schema.ts';
import { withLogUrl } from '../image-builder/staged-blobs.ts';

/** Without the host's paths and the plan: they are the operator's. `origin`: what URLs begin with. */
export function runView(
  run: RunRow,
  template: string,
  origin: string,
  more: { readonly phases?: readonly PhaseRow[]; readonly outputs?: readonly RunOutputRow[] } = {},
) {
  const { phases, outputs } = more;
  return {
    id: `${template}/providers/Kiln.Builds/runs/${run.id}`,
    name: run.id,
    type: 'Kiln.Builds/runs',
    properties: {
      state: run.state,
      subState: run.sub_state,
      message: withLogUrl(run.message ?? '', origin),
      error: run.error && publicError(run.error),
      machine: run.machine,
      keptUntil: run.kept_until?.toISOString() ?? null,
      correlationId: run.correlation_id,
      createdAt: run.created_at.toISOString(),
      ...times(run),
      ...(phases && { phases: phases.map(phaseView) }),
      ...(outputs && { outputs: outputs.map(outputView) }),
    },
  };
}

function phaseView(phase: PhaseRow) {
  const { kind, name, state, cached, bytes, error } = phase;
  return { kind, name, state, cached, ...times(phase), bytes, error: error && publicError(error) };
}

function outputView(output: RunOutputRow) {
  return {
    name: output.name,
    artifactId: output.artifact_id,
    artifactUri: output.artifact_uri,
    location: output.location,
    fsverity: output.fsverity,
    sha256: output.sha256,
    bytes: output.bytes,
    virtualSize: output.virtual_size,
  };
}

function times({ started_at: start, ended_at: end }: Pick<RunRow, 'started_at' | 'ended_at'>) {
  return {
    startTime: start?.toISOString() ?? null,
    endTime: end?.toISOString() ?? null,
    seconds: start && end ? (end.getTime() - start.getTime()) / 1000 : null,
  };
}
