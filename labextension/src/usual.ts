import { IOperation } from './api';

/** How long operations like this one took here before, in seconds; undefined where none is known. */
export function usualSeconds(
  operations: readonly IOperation[],
  operation: IOperation
): number | undefined {
  const steps = stepNames(operation);
  const alike = operations.filter(
    o => o.state === 'done' && !o.elsewhere && o.kind === operation.kind && stepNames(o) === steps
  );
  const same = alike.filter(o => o.compute === operation.compute);
  const seconds = (same.length > 0 ? same : alike)
    .map(o => (Date.parse(o.ended ?? '') - Date.parse(o.started)) / 1000)
    .filter(s => Number.isFinite(s) && s >= 1)
    .sort((a, b) => a - b);
  return seconds.length > 0 ? seconds[Math.floor(seconds.length / 2)] : undefined;
}

function stepNames({ steps }: IOperation): string {
  return steps.map(({ name }) => name).join();
}
