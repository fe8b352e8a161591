import { IStateDB } from '@jupyterlab/statedb';

/** Which machines this person has attached to before: the first time says what that allows. */
export interface IKnownComputes {
  has(compute: string): Promise<boolean>;
  add(compute: string): Promise<void>;
}

const STATE_KEY = 'jupyter-dsvm:known-computes';

/** Kept in JupyterLab's state database where there is one, otherwise for as long as the page lives. */
export class KnownComputes implements IKnownComputes {
  constructor(private readonly _state: IStateDB | null) {}

  async has(compute: string): Promise<boolean> {
    return (await this._read()).has(compute);
  }

  async add(compute: string): Promise<void> {
    const known = (await this._read()).add(compute);
    this._known = known;
    await this._state?.save(STATE_KEY, [...known]);
  }

  private async _read(): Promise<Set<string>> {
    if (!this._known) {
      const saved = await this._state?.fetch(STATE_KEY);
      this._known = new Set(Array.isArray(saved) ? saved.filter(id => typeof id === 'string') : []);
    }
    return this._known;
  }

  private _known: Set<string> | undefined;
}
