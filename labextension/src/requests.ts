import { ServerConnection } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';

import {
  ComputeAction,
  IAdvice,
  IAdviceRequest,
  IConflictRequest,
  ICreation,
  IFetchRequest,
  IIdleRequest,
  IIdleStop,
  IInstallRequest,
  IKernelspec,
  IKernelspecList,
  IModule,
  IModuleList,
  IModulesRequest,
  IMoveRequest,
  INewCompute,
  IOperation,
  IResizeRequest,
  ISizeOfferList,
  ISSHCommand,
  IStopLoss,
  ISyncRequest,
  ITerminal,
  IVariables,
  IWorkspaceEstimate,
  Keep
} from './api';
import { request } from './request';

/** The server's lists, by the words of its events and by their paths. */
export type ListName = 'computes' | 'kernels' | 'operations' | 'signin' | 'workspaces' | 'spend';

/** A path of the API, whose parts may have any letters. */
const at = (...parts: string[]): string => parts.map(encodeURIComponent).join('/');

const sent = (method: string, body?: object): RequestInit => ({
  method,
  ...(body && { body: JSON.stringify(body) })
});

/** What is asked of the server on somebody's behalf, one method for each route. `ComputeModel`, which has the lists, extends it. */
export abstract class ComputeRequests {
  constructor(
    protected readonly serverSettings: ServerConnection.ISettings,
    /** For what is said of a request that failed. */
    protected readonly trans: TranslationBundle
  ) {}

  /** An operation was begun, and the event about it may be a moment away. */
  protected abstract begun(operation: IOperation): void;
  /** What was asked for has changed these lists. */
  protected abstract renew(...lists: ListName[]): void;
  /** How a machine's idle stop is now. */
  protected abstract takeIdle(compute: string, idle: IIdleStop): void;

  async change(compute: string, action: ComputeAction): Promise<IOperation> {
    return this._begin(at('computes', compute, action), sent('POST'));
  }

  async move(kernel: string, body: IMoveRequest): Promise<IOperation> {
    return this._begin(at('kernels', kernel, 'compute'), sent('PUT', body));
  }

  async variables(kernel: string, compute: string): Promise<IVariables> {
    return this.ask(`${at('kernels', kernel, 'variables')}?to=${encodeURIComponent(compute)}`);
  }

  async loadVariables(kernel: string): Promise<IOperation> {
    return this._begin(at('kernels', kernel, 'variables', 'load'), sent('POST'));
  }

  async forgetVariables(kernel: string): Promise<void> {
    await this.ask(at('kernels', kernel, 'variables', 'saved'), sent('DELETE'));
    this.renew('kernels');
  }

  async estimate(kernel: string, compute: string): Promise<IWorkspaceEstimate> {
    return this.ask(`${at('kernels', kernel, 'workspace')}?compute=${encodeURIComponent(compute)}`);
  }

  async sync(workspace: string, body: ISyncRequest = {}): Promise<IOperation> {
    return this._begin(at('workspaces', workspace, 'sync'), sent('POST', body));
  }

  async resolve(workspace: string, path: string, keep: Keep): Promise<void> {
    const body: IConflictRequest = { path, keep };
    await this.ask(at('workspaces', workspace, 'conflicts'), sent('POST', body));
    this.renew('workspaces');
  }

  async fetch(workspace: string, paths: string[]): Promise<IOperation> {
    const body: IFetchRequest = { paths };
    return this._begin(at('workspaces', workspace, 'fetch'), sent('POST', body));
  }

  async reconnect(kernel: string): Promise<void> {
    await this.ask(at('kernels', kernel, 'reconnect'), sent('POST'));
  }

  async cancel(operation: string, release = false): Promise<void> {
    await this.ask(at('operations', operation) + (release ? '?release=true' : ''), sent('DELETE'));
    this.renew('operations');
  }

  /** It has been seen how it ended: no page shows it any more. Of one that the server has forgotten itself nothing is asked. */
  protected forgetOperation(operation: string): Promise<void> {
    return this.ask<void>(at('operations', operation) + '?dismiss=true', sent('DELETE')).catch(
      () => undefined
    );
  }

  async setIdle(compute: string, body: IIdleRequest): Promise<IIdleStop> {
    const idle = await this.ask<IIdleStop>(at('computes', compute, 'idle'), sent('PUT', body));
    this.takeIdle(compute, idle);
    return idle;
  }

  async stopLoss(compute: string): Promise<IStopLoss> {
    return this.ask(at('computes', compute, 'loss'));
  }

  async sizes(compute: string): Promise<ISizeOfferList> {
    return this.ask(at('computes', compute, 'sizes'));
  }

  async resize(compute: string, body: IResizeRequest): Promise<IOperation> {
    return this._begin(at('computes', compute, 'resize'), sent('POST', body));
  }

  async creation(subscription: string | null, location: string | null): Promise<ICreation> {
    const where = Object.entries({ subscription, location })
      .filter(([, value]) => value)
      .map(([name, value]) => `${name}=${encodeURIComponent(value ?? '')}`);
    return this.ask(['creation', where.join('&')].filter(Boolean).join('?'));
  }

  async create(wanted: INewCompute): Promise<IOperation> {
    return this._begin('computes', sent('POST', wanted));
  }

  async kernelspecs(compute: string): Promise<IKernelspec[]> {
    return (await this.ask<IKernelspecList>(at('computes', compute, 'kernelspecs'))).kernelspecs;
  }

  async modules(compute: string, body: IModulesRequest): Promise<IModule[]> {
    const path = at('computes', compute, 'modules');
    return (await this.ask<IModuleList>(path, sent('POST', body))).modules;
  }

  async advice(kernel: string, body: IAdviceRequest): Promise<IAdvice> {
    return this.ask(at('kernels', kernel, 'advice'), sent('POST', body));
  }

  async install(compute: string, body: IInstallRequest): Promise<IOperation> {
    return this._begin(at('computes', compute, 'install'), sent('POST', body));
  }

  async openTerminal(compute: string): Promise<ITerminal> {
    return this.ask(at('computes', compute, 'terminals'), sent('POST'));
  }

  async sshCommand(compute: string): Promise<ISSHCommand> {
    return this.ask(at('computes', compute, 'ssh'));
  }

  protected async ask<T>(path: string, init?: RequestInit): Promise<T> {
    return request<T>(path, this.serverSettings, this.trans, init);
  }

  /** Send what starts an operation, and have it shown at once. */
  private async _begin(path: string, init: RequestInit): Promise<IOperation> {
    const operation = await this.ask<IOperation>(path, init);
    this.begun(operation);
    return operation;
  }
}
