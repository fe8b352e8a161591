import { KernelSpec } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';

import { FREE } from './api';
import { IComputeModel } from './tokens';

/** So many times a list is fetched for one set of machines: a server may offer no kernelspecs of theirs at all. */
const TRIES = 3;

type Specs = Pick<KernelSpec.IManager, 'specs' | 'refreshSpecs'>;

/** Ids of the machines that kernels run on. */
export function attachedMachines({ kernels }: Pick<IComputeModel, 'kernels'>): Set<string> {
  return new Set(
    kernels
      .filter(({ compute, link }) => compute !== FREE && link.state !== 'gone')
      .map(({ compute }) => compute)
  );
}

/** Ids of the machines that kernelspecs of this server start a kernel on. */
export function offeredMachines(specs: Specs['specs']): Set<string> {
  const offered = Object.values(specs?.kernelspecs ?? {}).flatMap(spec => {
    const provisioner = spec?.metadata?.kernel_provisioner as
      { config?: { compute?: unknown } } | undefined;
    const compute = provisioner?.config?.compute;
    return typeof compute === 'string' ? [compute] : [];
  });
  return new Set(offered);
}

/**
 * Has launcher and kernel picker show the kernels of machines that notebooks run on (“Python 3 on gpu-vm”).
 *
 * The server makes kernelspecs for them when a machine is attached, a moment later than the kernel's row says so, and bumps the
 * list of computes then. So whenever the model has news, the page's kernelspecs are held against what should be there.
 */
export class AttachedKernelspecs {
  constructor(
    private readonly _model: IComputeModel,
    private readonly _specs: Specs
  ) {
    _model.stateChanged.connect(this._check, this);
    this._check();
  }

  dispose(): void {
    Signal.disconnectReceiver(this);
  }

  private _check(): void {
    if (this._model.status !== 'ready') {
      return;
    }
    const attached = attachedMachines(this._model);
    const key = [...attached].sort().join();
    if (key !== this._key) {
      this._key = key;
      this._tries = 0;
    }
    attached.forEach(compute => this._seen.add(compute));
    if (this._isAsking) {
      this._isOutdated = true;
    } else if (this._tries < TRIES && !this._isCurrent(attached)) {
      void this._refresh();
    }
  }

  /** Those that a person installed for a machine stay, so only a machine that was attached can be one too many. */
  private _isCurrent(attached: Set<string>): boolean {
    const offered = offeredMachines(this._specs.specs);
    return (
      [...attached].every(compute => offered.has(compute)) &&
      [...offered].every(compute => attached.has(compute) || !this._seen.has(compute))
    );
  }

  private async _refresh(): Promise<void> {
    this._tries++;
    this._isAsking = true;
    this._isOutdated = false;
    try {
      await this._specs.refreshSpecs();
    } catch (reason) {
      console.debug('jupyter-dsvm: the kernelspecs could not be fetched again', reason);
    } finally {
      this._isAsking = false;
    }
    if (this._isOutdated) {
      this._check();
    }
  }

  private readonly _seen = new Set<string>();
  private _key = '';
  private _tries = 0;
  private _isAsking = false;
  /** Whether there was news while it asked. */
  private _isOutdated = false;
}
