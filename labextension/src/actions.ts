/**
 * What can be done to a compute in the state it is in: one table for the commands, the menus and the cards. Pure.
 */
import { ComputeAction, FREE, ICompute, IKernel, IOperation, PowerState } from './api';

/** In which power states Azure is worth asking. `stop` deallocates, so it also releases a machine that is stopped. */
const POSSIBLE: Record<ComputeAction, readonly PowerState[]> = {
  start: ['deallocated', 'stopped'],
  stop: ['running', 'stopped', 'unknown'],
  restart: ['running']
};

export function canChange(
  compute: ICompute,
  operation: IOperation | undefined,
  action: ComputeAction
): boolean {
  return compute.kind === 'dsvm' && !operation && POSSIBLE[action].includes(compute.power_state);
}

/** In which power states an attach can begin: where it is off, it is started first. */
const ATTACHABLE: readonly PowerState[] = ['running', 'deallocated', 'stopped', 'starting'];

export function canAttach(
  compute: ICompute,
  operation: IOperation | undefined,
  kernel: IKernel | undefined
): boolean {
  return (
    compute.kind !== 'free' &&
    compute.os === 'linux' &&
    !!kernel &&
    !kernel.moving_to &&
    kernel.compute !== compute.id &&
    !operation &&
    (compute.kind === 'host' || ATTACHABLE.includes(compute.power_state))
  );
}

export function canDetach(kernel: IKernel | undefined): boolean {
  return !!kernel && kernel.compute !== FREE && !kernel.moving_to;
}
