/**
 * What can be done to a compute in the state it is in: one table for the commands, the menus and the cards. Pure.
 */
import { ComputeAction, FREE, ICompute, IKernel, IOperation, ISignIn, PowerState } from './api';
import { IComputeModel } from './tokens';

/**
 * The machines there are to choose from. The server goes on knowing those of somebody who has signed out; only those with
 * notebooks on them still matter to a person then.
 */
export function machinesOf(model: Pick<IComputeModel, 'computes' | 'signIn'>): ICompute[] {
  const isSignedOut = model.signIn.status?.state === 'signed_out';
  return model.computes.filter(
    ({ kind, attached }) =>
      kind !== 'free' && (kind !== 'dsvm' || !isSignedOut || attached.length > 0)
  );
}

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

const RESIZABLE: readonly PowerState[] = ['running', 'stopped', 'deallocated'];

/** Whether Azure is worth asking for sizes. A hibernated machine can only be started as it is. */
export function canResize(compute: ICompute, operation: IOperation | undefined): boolean {
  return (
    compute.kind === 'dsvm' &&
    !operation &&
    !compute.hibernated &&
    RESIZABLE.includes(compute.power_state)
  );
}

/** Whether somebody signed in here. Where nobody had to, for one with the Azure CLI, there is nothing to forget. */
export function canSignOut(status: ISignIn | null): boolean {
  return status?.method === 'device_code' || status?.method === 'pasted_token';
}

/** `wait`: what Azure has begun goes on there, and only nobody waits for it any more. */
export type CancelChoice = 'cancel' | 'wait' | 'release';

/** How a running operation can be ended from here. */
export function cancelChoices(operation: IOperation): readonly CancelChoice[] {
  if (operation.elsewhere) {
    return [];
  }
  switch (operation.kind) {
    case 'start':
      return ['wait', 'release'];
    case 'stop':
    case 'restart':
      return ['wait'];
    default:
      return ['cancel'];
  }
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

/** Whether a shell can be had there: a host may be off, which only trying tells. */
export function canEnter(compute: ICompute): boolean {
  return (
    compute.os === 'linux' &&
    (compute.kind === 'host' || (compute.kind === 'dsvm' && compute.power_state === 'running'))
  );
}
