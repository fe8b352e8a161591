import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { JSONExt, PartialJSONObject, ReadonlyPartialJSONObject, Token } from '@lumino/coreutils';
import { ISignal, Signal } from '@lumino/signaling';

/** What a card's button does with a machine that is off: start it and attach the notebook, or start it only. */
export type DefaultAction = 'attach' | 'start';

/** What a person has chosen, as in `schema/plugin.json`. */
export interface ISettingValues {
  readonly defaultAction: DefaultAction;
  /** Whether a move is asked about also where nothing speaks against it. */
  readonly confirmMove: boolean;
  /** Whether to ask before a machine is stopped, or restarted, that runs no notebook. */
  readonly confirmStop: boolean;
  readonly confirmRestart: boolean;
  readonly statusBar: boolean;
  readonly memoryOffers: boolean;
  /** Whether it is said when a machine that this page uses is stopped soon. */
  readonly idleNotices: boolean;
  /** Whether cells are filled with what the kernel has put out while no page was there. */
  readonly fillOutputs: boolean;
  /** For how long “Keep on” keeps a machine on. */
  readonly keepOnHours: number;
  /** The panel's filters, in the panel's own form; it checks them itself. */
  readonly filters: ReadonlyPartialJSONObject;
}

/** The settings as they are now. They are the defaults until JupyterLab has loaded them. */
export interface ISettings extends ISettingValues {
  readonly changed: ISignal<ISettings, void>;
  /** Have the panel's filters remembered. Does nothing where there are no settings to keep them in. */
  keepFilters(filters: ReadonlyPartialJSONObject): Promise<void>;
}

export const ISettings = new Token<ISettings>(
  'jupyter-dsvm:ISettings',
  'What a person has chosen in the settings of “Compute”.'
);

export const DEFAULTS: ISettingValues = {
  defaultAction: 'attach',
  confirmMove: true,
  confirmStop: false,
  confirmRestart: false,
  statusBar: true,
  memoryOffers: true,
  idleNotices: true,
  fillOutputs: true,
  keepOnHours: 1,
  filters: {}
};

/** As the schema says. */
const MOST_HOURS = 24;

type Loaded = Pick<ISettingRegistry.ISettings, 'composite' | 'set' | 'changed'>;

/**
 * Made when the page loads, without settings; the plugin gives it those that JupyterLab has loaded.
 *
 * A value of another kind than the schema says (a file edited by hand, an older version's) counts as the default.
 */
export class Settings implements ISettings {
  get defaultAction(): DefaultAction {
    return this._values.defaultAction;
  }

  get confirmMove(): boolean {
    return this._values.confirmMove;
  }

  get confirmStop(): boolean {
    return this._values.confirmStop;
  }

  get confirmRestart(): boolean {
    return this._values.confirmRestart;
  }

  get statusBar(): boolean {
    return this._values.statusBar;
  }

  get memoryOffers(): boolean {
    return this._values.memoryOffers;
  }

  get idleNotices(): boolean {
    return this._values.idleNotices;
  }

  get fillOutputs(): boolean {
    return this._values.fillOutputs;
  }

  get keepOnHours(): number {
    return this._values.keepOnHours;
  }

  get filters(): ReadonlyPartialJSONObject {
    return this._values.filters;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Follow these from now on. */
  use(loaded: Loaded): void {
    this._loaded = loaded;
    loaded.changed.connect(this._read, this);
    this._read();
  }

  async keepFilters(filters: ReadonlyPartialJSONObject): Promise<void> {
    if (this._loaded && !JSONExt.deepEqual(filters, this.filters)) {
      await this._loaded.set('filters', JSONExt.deepCopy(filters) as PartialJSONObject);
    }
  }

  private _read(): void {
    const values = checked(this._loaded?.composite ?? {});
    if (!JSONExt.deepEqual({ ...values }, { ...this._values })) {
      this._values = values;
      this._changed.emit();
    }
  }

  private _loaded: Loaded | null = null;
  private _values = DEFAULTS;
  private readonly _changed = new Signal<this, void>(this);
}

/** The settings in `composite`, with the default for each that is absent or of another kind. */
export function checked(composite: ReadonlyPartialJSONObject): ISettingValues {
  const flag = (name: keyof ISettingValues & string, fallback: boolean): boolean => {
    const value = composite[name];
    return typeof value === 'boolean' ? value : fallback;
  };
  const { defaultAction, filters, keepOnHours } = composite;
  return {
    defaultAction:
      defaultAction === 'start' || defaultAction === 'attach'
        ? defaultAction
        : DEFAULTS.defaultAction,
    confirmMove: flag('confirmMove', DEFAULTS.confirmMove),
    confirmStop: flag('confirmStop', DEFAULTS.confirmStop),
    confirmRestart: flag('confirmRestart', DEFAULTS.confirmRestart),
    statusBar: flag('statusBar', DEFAULTS.statusBar),
    memoryOffers: flag('memoryOffers', DEFAULTS.memoryOffers),
    idleNotices: flag('idleNotices', DEFAULTS.idleNotices),
    fillOutputs: flag('fillOutputs', DEFAULTS.fillOutputs),
    keepOnHours:
      typeof keepOnHours === 'number' && keepOnHours > 0 && keepOnHours <= MOST_HOURS
        ? keepOnHours
        : DEFAULTS.keepOnHours,
    filters: isObject(filters) ? filters : DEFAULTS.filters
  };
}

function isObject(value: unknown): value is ReadonlyPartialJSONObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
