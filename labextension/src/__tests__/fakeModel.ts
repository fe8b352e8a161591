import { Signal } from '@lumino/signaling';

import { ComputeAction, ICompute, IKernel, IKernelspec, IOperation, IProblem } from '../api';
import { ICurrentNotebook, INotebook } from '../current';
import { IComputeModel, IKernelMoved, ModelStatus } from '../tokens';
import * as fixtures from './fixtures';

/** A model that holds what the test says and writes down what it is asked to do. */
export class FakeModel implements IComputeModel {
  status: ModelStatus = 'ready';
  error: IProblem | null = null;
  computes: ICompute[] = [...fixtures.computeList.computes];
  problems: IProblem[] = [];
  asOf: string | null = null;
  kernels: IKernel[] = [fixtures.kernel];
  operations: IOperation[] = [];
  isDisposed = false;
  readonly done: unknown[][] = [];
  readonly stateChanged = new Signal<this, void>(this);
  readonly kernelMoved = new Signal<this, IKernelMoved>(this);
  private readonly _dismissed = new Set<string>();

  compute(id: string | null): ICompute | undefined {
    return this.computes.find(compute => compute.id === id);
  }

  kernel(id: string | null): IKernel | undefined {
    return this.kernels.find(kernel => kernel.id === id);
  }

  runningOn(compute: string): IOperation | undefined {
    return this.operations.find(o => o.compute === compute && o.state === 'running');
  }

  moving(kernel: string): IOperation | undefined {
    return this.operations.find(o => o.kernel === kernel && o.state === 'running');
  }

  failedOn(compute: string): IOperation | undefined {
    return this.operations.find(
      o => o.compute === compute && o.state === 'failed' && !this._dismissed.has(o.id)
    );
  }

  dismiss(operation: string): void {
    this._dismissed.add(operation);
    this.stateChanged.emit();
  }

  async refresh(): Promise<void> {
    this.done.push(['refresh']);
  }

  async change(compute: string, action: ComputeAction): Promise<IOperation> {
    this.done.push(['change', compute, action]);
    return fixtures.attach;
  }

  async move(kernel: string, compute: string, kernelspec?: string): Promise<IOperation> {
    this.done.push(['move', kernel, compute, kernelspec]);
    return fixtures.attach;
  }

  async cancel(operation: string): Promise<void> {
    this.done.push(['cancel', operation]);
  }

  async kernelspecs(_: string): Promise<IKernelspec[]> {
    return fixtures.kernelspecList.kernelspecs;
  }

  dispose(): void {
    this.isDisposed = true;
  }

  /** Put something in place of what it holds, and say so. */
  set(change: Partial<FakeModel>): void {
    Object.assign(this, change);
    this.stateChanged.emit();
  }
}

export class FakeCurrent implements ICurrentNotebook {
  notebook: INotebook | null = {
    path: 'work/analysis.ipynb',
    name: 'analysis.ipynb',
    kernelId: fixtures.kernel.id,
    busy: false
  };
  readonly changed = new Signal<this, void>(this);
}
