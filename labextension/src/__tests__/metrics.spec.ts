import { nullTranslator } from '@jupyterlab/translation';

import { MetricsModel } from '../metrics';
import { FakeServer, settle } from './fakeServer';
import * as fixtures from './fixtures';

const FREE = 'GET computes/free/metrics';

/** However long a busy computer takes; jest itself gives up after some seconds. */
const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) {
    await settle(5);
  }
};

describe('MetricsModel', () => {
  let server: FakeServer;
  let model: MetricsModel;
  let changed: string[];

  beforeEach(() => {
    server = new FakeServer();
    server.answers.set(FREE, { body: fixtures.freeMetrics });
    model = new MetricsModel({
      serverSettings: server.settings,
      trans: nullTranslator.load('jupyter_dsvm'),
      interval: 20
    });
    changed = [];
    model.changed.connect((_, compute) => changed.push(compute));
  });

  afterEach(() => {
    model.dispose();
    server.dispose();
    setVisibility('visible');
  });

  const setVisibility = (state: DocumentVisibilityState): void => {
    Object.defineProperty(document, 'hidden', {
      configurable: true,
      get: () => state === 'hidden'
    });
    Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => state });
  };

  it('asks for nothing that nobody looks at', async () => {
    await settle(50);
    expect(server.asked).toEqual([]);
    expect(model.metrics('free')).toBeUndefined();
  });

  it('asks again and again while somebody looks, once for all who do', async () => {
    const one = model.watch('free');
    const other = model.watch('free');
    await until(() => server.asked.length > 1 && !!model.metrics('free'));
    expect(model.metrics('free')).toEqual(fixtures.freeMetrics);
    expect(new Set(changed)).toEqual(new Set(['free']));
    const count = server.asked.length;
    one.dispose();
    one.dispose();
    await until(() => server.asked.length > count);
    other.dispose();
    await settle(30);
    const last = server.asked.length;
    await settle(80);
    expect(server.asked).toHaveLength(last);
    expect(model.metrics('free')).toBeUndefined();
  });

  it('writes an id as an address has it', async () => {
    model.watch(fixtures.gpu.id);
    await until(() => server.asked.length > 0);
    expect(server.asked[0]).toBe('GET computes/azure%3A6b1a/metrics');
  });

  it('asks for nothing while the page is hidden', async () => {
    setVisibility('hidden');
    model.watch('free');
    await settle(80);
    expect(server.asked).toEqual([]);
  });

  it('waits longer and longer where nothing is answered, and says nothing', async () => {
    model.watch('free');
    await until(() => !!model.metrics('free'));
    const warn = jest.spyOn(console, 'warn');
    const error = jest.spyOn(console, 'error');
    server.isAway = true;
    const before = server.asked.length;
    await settle(300);
    expect(server.asked.length - before).toBeLessThan(9);
    expect(warn).not.toHaveBeenCalled();
    expect(error).not.toHaveBeenCalled();
    expect(model.metrics('free')).toEqual(fixtures.freeMetrics);
    warn.mockRestore();
    error.mockRestore();
  });

  it('forgets what could not be renewed for long', async () => {
    model.watch('free');
    await until(() => !!model.metrics('free'));
    server.isAway = true;
    const now = jest.spyOn(Date, 'now').mockReturnValue(Date.now() + 20_000);
    await until(() => !model.metrics('free'));
    now.mockRestore();
    expect(model.metrics('free')).toBeUndefined();
    expect(changed[changed.length - 1]).toBe('free');
  });

  it('does not take an answer for somebody who has left', async () => {
    let open = (): void => undefined;
    server.gate = new Promise(resolve => {
      open = resolve;
    });
    const watch = model.watch('free');
    await settle(20);
    watch.dispose();
    open();
    await settle(20);
    expect(changed).toEqual([]);
  });

  it('ends with the page', async () => {
    model.watch('free');
    await settle(30);
    model.dispose();
    const count = server.asked.length;
    model.watch('free').dispose();
    await settle(60);
    expect(server.asked).toHaveLength(count);
    expect(model.isDisposed).toBe(true);
  });
});
