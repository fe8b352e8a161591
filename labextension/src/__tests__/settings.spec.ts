import { Signal } from '@lumino/signaling';
import Ajv2020 from 'ajv/dist/2020';
import * as fs from 'fs';
import * as path from 'path';

import { DEFAULT_FILTERS } from '../filters';
import { checked, DEFAULTS, Settings } from '../settings';

const SCHEMA = JSON.parse(
  fs.readFileSync(path.join(__dirname, '..', '..', 'schema', 'plugin.json'), 'utf-8')
);

/** What JupyterLab hands out for a plugin's settings, as far as it is used. */
class Loaded {
  composite: Record<string, unknown> = {};
  readonly changed = new Signal<this, void>(this);
  readonly kept: unknown[] = [];

  async set(name: string, value: unknown): Promise<void> {
    this.kept.push([name, value]);
    this.change({ ...this.composite, [name]: value });
  }

  change(composite: Record<string, unknown>): void {
    this.composite = composite;
    this.changed.emit();
  }
}

const use = (settings: Settings, loaded: Loaded): void =>
  settings.use(loaded as unknown as Parameters<Settings['use']>[0]);

describe('the settings', () => {
  it('are the schema’s defaults', () => {
    const defaults = Object.entries(SCHEMA.properties as Record<string, { default: unknown }>).map(
      ([name, property]) => [name, property.default]
    );
    expect(Object.fromEntries(defaults)).toEqual(DEFAULTS);
    const validate = new Ajv2020({ strict: false }).compile(SCHEMA);
    validate(DEFAULTS);
    expect(validate.errors).toBeNull();
  });

  it('take every filter of the panel', () => {
    const validate = new Ajv2020({ strict: false }).compile(SCHEMA);
    for (const state of ['any', 'on', 'off', 'attached']) {
      validate({ ...DEFAULTS, filters: { ...DEFAULT_FILTERS, state } });
      expect(validate.errors).toBeNull();
    }
    expect(Object.keys(SCHEMA.properties.filters.properties)).toEqual(Object.keys(DEFAULT_FILTERS));
  });

  it.each<[string, unknown]>([
    ['defaultAction', 'stop'],
    ['confirmMove', 'no'],
    ['confirmStop', 1],
    ['confirmRestart', null],
    ['statusBar', []],
    ['memoryOffers', 'false'],
    ['idleNotices', 1],
    ['keepOnHours', '1'],
    ['keepOnHours', 0],
    ['keepOnHours', 25],
    ['filters', 'gpu'],
    ['filters', ['gpu']],
    ['filters', null]
  ])('fall back to the default where %s is %p', (name, value) => {
    expect(checked({ [name]: value as null })).toEqual(DEFAULTS);
  });

  it('follow what JupyterLab loads, and say when something changes', () => {
    const settings = new Settings();
    let changes = 0;
    settings.changed.connect(() => changes++);
    expect(settings.statusBar).toBe(true);
    const loaded = new Loaded();
    use(settings, loaded);
    expect(changes).toBe(0); // the defaults again
    loaded.change({ statusBar: false, defaultAction: 'start', confirmMove: false });
    expect(changes).toBe(1);
    expect([settings.statusBar, settings.defaultAction, settings.confirmMove]).toEqual([
      false,
      'start',
      false
    ]);
    loaded.change({ ...loaded.composite });
    expect(changes).toBe(1);
  });

  it('remember the filters, each once', async () => {
    const settings = new Settings();
    await settings.keepFilters({ gpu: true }); // nowhere to keep them: nothing happens
    expect(settings.filters).toEqual({});
    const loaded = new Loaded();
    use(settings, loaded);
    await settings.keepFilters({ gpu: true });
    await settings.keepFilters({ gpu: true });
    expect(loaded.kept).toEqual([['filters', { gpu: true }]]);
    expect(settings.filters).toEqual({ gpu: true });
  });
});
