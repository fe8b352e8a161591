import { IStateDB } from '@jupyterlab/statedb';

/** Whether a person had a folder copied the last time. */
export interface IFolderChoices {
  /** Undefined where they never said. */
  get(folder: string): Promise<boolean | undefined>;
  set(folder: string, copied: boolean): Promise<void>;
}

const STATE_KEY = 'jupyter-dsvm:copied-folders';

/** Of more folders than these the oldest choices are forgotten. */
const MOST = 200;

/** Kept in JupyterLab's state database where there is one, otherwise for as long as the page lives. */
export class FolderChoices implements IFolderChoices {
  constructor(private readonly _state: IStateDB | null) {}

  async get(folder: string): Promise<boolean | undefined> {
    return (await this._read()).get(folder);
  }

  async set(folder: string, copied: boolean): Promise<void> {
    const choices = await this._read();
    choices.delete(folder); // the newest comes last
    choices.set(folder, copied);
    for (const oldest of [...choices.keys()].slice(0, Math.max(0, choices.size - MOST))) {
      choices.delete(oldest);
    }
    await this._state?.save(STATE_KEY, [...choices]);
  }

  private async _read(): Promise<Map<string, boolean>> {
    if (!this._choices) {
      const saved: unknown = await this._state?.fetch(STATE_KEY);
      this._choices = new Map((Array.isArray(saved) ? saved : []).filter(isChoice));
    }
    return this._choices;
  }

  private _choices: Map<string, boolean> | undefined;
}

function isChoice(saved: unknown): saved is [string, boolean] {
  return Array.isArray(saved) && typeof saved[0] === 'string' && typeof saved[1] === 'boolean';
}
