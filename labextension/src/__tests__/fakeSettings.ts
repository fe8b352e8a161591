import { ReadonlyPartialJSONObject } from '@lumino/coreutils';
import { Signal } from '@lumino/signaling';

import { DEFAULTS, ISettings, ISettingValues } from '../settings';

/** Settings that are as the test says. */
export class FakeSettings implements ISettings {
  defaultAction = DEFAULTS.defaultAction;
  confirmMove = DEFAULTS.confirmMove;
  confirmStop = DEFAULTS.confirmStop;
  confirmRestart = DEFAULTS.confirmRestart;
  statusBar = DEFAULTS.statusBar;
  memoryOffers = DEFAULTS.memoryOffers;
  idleNotices = DEFAULTS.idleNotices;
  fillOutputs = DEFAULTS.fillOutputs;
  keepOnHours = DEFAULTS.keepOnHours;
  filters = DEFAULTS.filters;
  readonly changed = new Signal<this, void>(this);

  async keepFilters(filters: ReadonlyPartialJSONObject): Promise<void> {
    this.set({ filters });
  }

  set(values: Partial<ISettingValues>): void {
    Object.assign(this, values);
    this.changed.emit();
  }
}
