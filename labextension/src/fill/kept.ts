import { Kernel } from '@jupyterlab/services';

import { ICellRun, ICellRunList } from '../api';
import { request, RequestError } from '../request';
import { merged } from './plan';
import { IFillOptions } from './tokens';

/** What the server has kept of one kernel's cells, as far as this page has been told. */
export class Kept {
  constructor(private readonly _options: Pick<IFillOptions, 'serverSettings' | 'trans'>) {}

  /** By cell, its last run with all its outputs; `kept` is of the last answer. */
  readonly runs = new Map<string, ICellRun>();

  /** The pages that were connected at the last answer. */
  get sessions(): readonly string[] {
    return this._sessions;
  }

  follow(kernel: Kernel.IKernelConnection | null): void {
    this._kernel = kernel;
    this._sessions = [];
    this._told.clear();
    this._unknown.clear();
    this._begin();
  }

  /** Whether the server keeps nothing of that request (a console's, say). If nobody knows, it is asked next time. */
  isUnknown(request: string): boolean {
    if (!this._unknown.has(request)) {
      this._told.add(request);
    }
    return this._unknown.has(request);
  }

  /**
   * Ask for what is new. Rejects with a `RequestError`.
   *
   * @param apply is waited for after each part of the answer, with the cells whose runs it has
   */
  async read(apply: (fresh: ReadonlySet<string>) => Promise<void>): Promise<void> {
    const kernel = this._kernel;
    const told = [...this._told];
    this._told.clear();
    let after: number | null = 0;
    while (after !== null) {
      const answer: ICellRunList = await this._ask(`?since=${this._version}&after=${after}`);
      if (kernel !== this._kernel) {
        return;
      }
      this._sessions = answer.sessions;
      const rows = answer.rows.filter(({ widget }) => widget === null);
      if (!rows.every(row => this._take(row))) {
        this._begin();
        after = 0;
        continue;
      }
      after = answer.next;
      if (after === null) {
        this._version = answer.version;
      }
      await apply(new Set(rows.map(({ cell }) => cell)));
      if (kernel !== this._kernel) {
        return;
      }
    }
    const known = new Set([...this.runs.values()].map(({ msg_id }) => msg_id));
    told.filter(id => !known.has(id)).forEach(id => this._unknown.add(id));
  }

  /** Nobody wants the outputs of that request any more. */
  async forget(run: string): Promise<void> {
    try {
      await this._ask<void>(`?msg_id=${encodeURIComponent(run)}`, { method: 'DELETE' });
    } catch (reason) {
      if (!(reason instanceof RequestError) || reason.status !== 404) {
        console.warn('jupyter-dsvm: outputs that nobody wants any more may come back', reason);
      }
    }
  }

  /** False where it goes on from something that is not known. */
  private _take(row: ICellRun): boolean {
    const before = this.runs.get(row.cell);
    const known = before?.msg_id === row.msg_id ? before.outputs : [];
    const outputs = this._version === 0 ? row.outputs : merged(known, row);
    if (outputs) {
      this.runs.set(row.cell, { ...row, outputs });
    }
    return outputs !== null;
  }

  private _begin(): void {
    this._version = 0;
    this.runs.clear();
  }

  private _ask<T>(query: string, init?: RequestInit): Promise<T> {
    const { serverSettings, trans } = this._options;
    const id = encodeURIComponent(this._kernel?.id ?? '');
    return request<T>(`kernels/${id}/outputs${query}`, serverSettings, trans, init);
  }

  private _kernel: Kernel.IKernelConnection | null = null;
  private _version = 0;
  private _sessions: readonly string[] = [];
  /** Requests that messages were about since the last question. */
  private readonly _told = new Set<string>();
  private readonly _unknown = new Set<string>();
}
