import { nullTranslator } from '@jupyterlab/translation';
import { waitFor } from '@testing-library/dom';

import { ComputeModel } from '../model';
import { IKernelMoved } from '../tokens';
import { FakeServer, settle } from './fakeServer';
import * as fixtures from './fixtures';

describe('ComputeModel', () => {
  let server: FakeServer;
  let model: ComputeModel;

  const start = async (): Promise<void> => {
    model = new ComputeModel({
      serverSettings: server.settings,
      stream: server.stream,
      trans: nullTranslator.load('jupyter_dsvm'),
      minimumGap: 0,
      retry: { first: 50, longest: 100 }
    });
    await settle();
  };

  beforeEach(() => {
    server = new FakeServer();
  });

  afterEach(() => {
    model.dispose();
    server.dispose();
  });

  it('fetches each list once and is ready', async () => {
    await start();
    expect([...server.asked].sort()).toEqual([
      'GET computes',
      'GET creation',
      'GET kernels',
      'GET operations',
      'GET signin',
      'GET spend',
      'GET workspaces'
    ]);
    expect(model.status).toBe('ready');
    expect(model.computes.map(c => c.name)).toEqual([
      'Free tier',
      'cpu-vm',
      'gpu-vm',
      'old-vm',
      'win-vm',
      'lab'
    ]);
    await settle(100);
    expect(server.asked).toHaveLength(7);
  });

  it('fetches a list again when an event names a newer revision of it, and only that list', async () => {
    await start();
    server.answers.set('GET computes', {
      body: {
        ...fixtures.computeList,
        revision: 2,
        computes: [fixtures.free, { ...fixtures.gpu, power_state: 'starting' }]
      }
    });
    let changes = 0;
    model.stateChanged.connect(() => changes++);
    server.emit({ what: 'computes', revision: 2 });
    await settle();
    expect(server.count('GET computes')).toBe(2);
    expect(server.count('GET kernels')).toBe(1);
    expect(model.compute(fixtures.gpu.id)?.power_state).toBe('starting');
    expect(changes).toBe(1);
  });

  it('ignores an event with a revision it already has, and events of others', async () => {
    await start();
    server.emit({ what: 'computes', revision: 1 });
    server.emit({ what: 'computes', revision: 0 });
    server.emit({ what: 'computes', revision: 9 }, 'https://events.jupyter.org/somebody/else');
    server.emit({ what: 'nonsense' as 'computes', revision: 9 });
    await settle();
    expect(server.asked).toHaveLength(7);
  });

  it('turns a burst of events during a fetch into one more fetch', async () => {
    await start();
    let open = () => {};
    server.gate = new Promise(resolve => (open = resolve));
    server.emit({ what: 'operations', revision: 2 });
    await settle();
    for (let revision = 3; revision <= 50; revision++) {
      server.emit({ what: 'operations', revision });
    }
    await settle();
    expect(server.count('GET operations')).toBe(2);
    server.answers.set('GET operations', { body: { revision: 50, operations: [fixtures.attach] } });
    open();
    server.gate = null;
    await settle();
    // The fetch that was under way answered with revision 50 already, so nothing is left to ask.
    expect(server.count('GET operations')).toBe(2);
    expect(model.operations).toHaveLength(1);
  });

  it('asks once more when the fetch under way was too early for the event', async () => {
    await start();
    let open = () => {};
    server.gate = new Promise(resolve => (open = resolve));
    server.answers.set('GET operations', { body: { revision: 2, operations: [] } });
    server.emit({ what: 'operations', revision: 2 });
    await settle();
    server.emit({ what: 'operations', revision: 3 });
    open();
    server.gate = null;
    await settle();
    expect(server.count('GET operations')).toBe(3);
  });

  it('believes a lower revision after a resync: the server was restarted', async () => {
    server.answers.set('GET kernels', { body: { revision: 900, kernels: [fixtures.kernel] } });
    await start();
    server.answers.set('GET kernels', { body: { revision: 1, kernels: [] } });
    model.resync();
    await settle();
    expect(model.kernels).toEqual([]);
    server.answers.set('GET kernels', { body: { revision: 2, kernels: [fixtures.kernel] } });
    server.emit({ what: 'kernels', revision: 2 });
    await settle();
    expect(model.kernels).toEqual([fixtures.kernel]);
  });

  it('says which kernel is on another compute than before', async () => {
    await start();
    const moved: IKernelMoved[] = [];
    model.kernelMoved.connect((_, args) => moved.push(args));
    const there = { ...fixtures.kernel, compute: fixtures.gpu.id };
    server.answers.set('GET kernels', { body: { revision: 2, kernels: [there] } });
    server.emit({ what: 'kernels', revision: 2 });
    await settle();
    expect(moved).toEqual([{ kernel: there, from: 'free' }]);
  });

  it('says that the server has no jupyter-dsvm', async () => {
    server.answers.clear();
    await start();
    expect(model.status).toBe('missing');
    expect(model.error?.message).toContain('no jupyter-dsvm');
    expect(model.error?.advice).toContain('jupyter server extension list');
  });

  it('shows the message and advice of the server, and keeps what it had', async () => {
    await start();
    server.answers.set('GET computes', { status: 502, body: fixtures.problem });
    server.emit({ what: 'computes', revision: 2 });
    await settle();
    expect(model.status).toBe('ready');
    expect(model.error).toEqual(fixtures.problem);
    expect(model.computes).toHaveLength(6);
    server.answers.set('GET computes', { body: { ...fixtures.computeList, revision: 3 } });
    server.emit({ what: 'computes', revision: 3 });
    await settle();
    expect(model.error).toBeNull();
  });

  it('fails with the reason when the first answer is an error', async () => {
    server.answers.set('GET computes', {
      status: 403,
      body: { message: 'Forbidden', reason: null }
    });
    await start();
    expect(model.status).toBe('failed');
    expect(model.error?.message).toContain('403 Forbidden');
    expect(model.error?.advice).toContain('sign in');
  });

  it('asks again by itself until the server is reached, and then no more', async () => {
    server.isAway = true;
    await start();
    expect(model.status).toBe('failed');
    expect(model.error?.message).toContain('Failed to fetch');
    await waitFor(() => expect(server.count('GET computes')).toBeGreaterThan(1));
    server.isAway = false;
    await waitFor(() => expect(model.status).toBe('ready'));
    expect(model.error).toBeNull();
    const asked = server.asked.length;
    await settle(300);
    expect(server.asked).toHaveLength(asked);
  });

  it('does not ask again after an answer that is an error', async () => {
    server.answers.set('GET computes', { status: 502, body: fixtures.problem });
    await start();
    await settle(300);
    expect(server.count('GET computes')).toBe(1);
  });

  it('shows an operation as soon as it has begun', async () => {
    await start();
    server.answers.set('PUT kernels/k-1/compute', { status: 202, body: fixtures.attach });
    server.answers.set('GET operations', { body: { revision: 2, operations: [fixtures.attach] } });
    await model.move('k-1', { compute: fixtures.gpu.id, kernelspec: 'pytorch' });
    expect(server.bodies).toEqual([{ compute: fixtures.gpu.id, kernelspec: 'pytorch' }]);
    expect(model.runningOn(fixtures.gpu.id)).toEqual(fixtures.attach);
    expect(model.moving('k-1')).toEqual(fixtures.attach);
    await settle();
    expect(model.operations).toEqual([fixtures.attach]);
  });

  it('asks for variables, and has them loaded and forgotten', async () => {
    await start();
    server.answers.set('GET kernels/k-1/variables?to=azure%3A6b1a', { body: fixtures.variables });
    server.answers.set('POST kernels/k-1/variables/load', { status: 202, body: fixtures.load });
    server.answers.set('DELETE kernels/k-1/variables/saved', { status: 204, body: null });
    expect(await model.variables('k-1', fixtures.gpu.id)).toEqual(fixtures.variables);
    expect(await model.loadVariables('k-1')).toEqual(fixtures.load);
    // It is no change of the machine, nor a move.
    expect(model.runningOn(fixtures.gpu.id)).toBeUndefined();
    expect(model.moving('k-1')).toBeUndefined();
    const asked = server.count('GET kernels');
    await model.forgetVariables('k-1');
    await waitFor(() => expect(server.count('GET kernels')).toBeGreaterThan(asked));
  });

  it('encodes ids in addresses', async () => {
    await start();
    server.answers.set('POST computes/azure%3A6b1a/start', {
      status: 202,
      body: { ...fixtures.attach, kind: 'start' }
    });
    server.answers.set('DELETE operations/op-1', { status: 204, body: null });
    server.answers.set('DELETE operations/op-1?release=true', { status: 204, body: null });
    server.answers.set('POST kernels/k-1/reconnect', { status: 204, body: null });
    server.answers.set('GET computes/azure%3A6b1a/sizes', { body: fixtures.sizeOffers });
    server.answers.set('POST computes/azure%3A6b1a/resize', {
      status: 202,
      body: { ...fixtures.attach, kind: 'resize' }
    });
    server.answers.set('GET computes/azure%3A6b1a/kernelspecs', { body: fixtures.kernelspecList });
    expect((await model.change(fixtures.gpu.id, 'start')).kind).toBe('start');
    await model.cancel('op-1');
    await model.cancel('op-1', true);
    await model.reconnect('k-1');
    expect(await model.sizes(fixtures.gpu.id)).toEqual(fixtures.sizeOffers);
    const request = { size: 'Standard_NC8as_T4_v3', end_kernels: true };
    expect((await model.resize(fixtures.gpu.id, request)).kind).toBe('resize');
    expect(server.bodies).toEqual([request]);
    expect(await model.kernelspecs(fixtures.gpu.id)).toHaveLength(2);
  });

  it('rejects with what the server said when a move is refused', async () => {
    await start();
    server.answers.set('PUT kernels/k-1/compute', { status: 409, body: fixtures.problem });
    await expect(model.move('k-1', { compute: fixtures.gpu.id })).rejects.toMatchObject({
      problem: fixtures.problem,
      status: 409
    });
    expect(model.operations).toEqual([]);
  });

  it('says in the language of the page why a request failed', async () => {
    server.isAway = true;
    const trans = nullTranslator.load('jupyter_dsvm');
    jest
      .spyOn(trans, '__')
      .mockImplementation((text, ...args) => `(de) ${text} [${args.join(', ')}]`);
    model = new ComputeModel({ serverSettings: server.settings, stream: server.stream, trans });
    await settle();
    jest.restoreAllMocks();
    expect(model.error?.message).toMatch(/^\(de\) .* \[GET, computes, Failed to fetch\]$/);
    expect(model.error?.advice).toMatch(/^\(de\) Check that it is running/);
  });

  it('has the server ask the cloud, then fetches', async () => {
    await start();
    server.answers.set('GET computes?refresh=true', { body: fixtures.computeList });
    await model.refresh();
    await settle();
    expect(server.count('GET computes?refresh=true')).toBe(1);
    expect(server.count('GET computes')).toBe(2);
  });

  it('holds the failure of the newest operation on a compute until it is dismissed', async () => {
    const failed = { ...fixtures.attach, state: 'failed' as const, error: fixtures.problem };
    server.answers.set('GET operations', { body: { revision: 1, operations: [failed] } });
    await start();
    expect(model.failedOn(fixtures.gpu.id)).toEqual(failed);
    model.dismiss(failed.id);
    expect(model.failedOn(fixtures.gpu.id)).toBeUndefined();
    expect(server.count(`DELETE operations/${failed.id}?dismiss=true`)).toBe(1);
  });

  it('asks once for each account whether it may have machines made', async () => {
    await start();
    expect(model.canCreate).toBe(false);
    server.answers.set('GET creation', { body: fixtures.creation });
    server.emit({ what: 'signin', revision: 2 });
    await settle();
    expect(server.count('GET creation')).toBe(1);
    server.answers.set('GET signin', { body: { ...fixtures.signedIn, account: 'grace@x.org' } });
    server.emit({ what: 'signin', revision: 3 });
    await settle(50);
    expect(model.canCreate).toBe(true);
    server.answers.set('GET signin', { body: fixtures.signedOut });
    server.emit({ what: 'signin', revision: 4 });
    await settle(50);
    expect(model.canCreate).toBe(false);
    expect(server.count('GET creation')).toBe(2);
  });

  it('has a machine made, and shows it before it is listed', async () => {
    await start();
    const making = { ...fixtures.attach, kind: 'create' as const, compute: null, kernel: null };
    server.answers.set('POST computes', { status: 202, body: making });
    server.answers.set('GET operations', { body: { revision: 2, operations: [making] } });
    server.answers.set('GET creation?subscription=sub1&location=westeurope', {
      body: fixtures.creation
    });
    expect(await model.creation('sub1', 'westeurope')).toEqual(fixtures.creation);
    await model.create(fixtures.newCompute);
    expect(server.bodies).toEqual([fixtures.newCompute]);
    expect(model.creations).toEqual([making]);
    await settle();
    const failed = { ...making, state: 'failed' as const, error: fixtures.problem };
    server.answers.set('GET operations', { body: { revision: 3, operations: [failed] } });
    server.emit({ what: 'operations', revision: 3 });
    await settle();
    expect(model.creations).toEqual([failed]);
    model.dismiss(failed.id);
    expect(model.creations).toEqual([]);
  });

  it('knows whose files are where, and asks for what a person wants of them', async () => {
    await start();
    expect(model.workspace('k-1')).toBeUndefined();
    server.answers.set('GET workspaces', { body: { ...fixtures.workspaceList, revision: 2 } });
    server.emit({ what: 'workspaces', revision: 2 });
    await settle();
    expect(model.workspaces).toEqual(fixtures.workspaceList.workspaces);
    expect(model.workspace('k-1')?.id).toBe('w-1');
    expect(model.workspace('k-2')).toBeUndefined();
    expect(model.workspace(null)).toBeUndefined();

    server.answers.set('GET kernels/k-1/workspace?compute=azure%3A6b1a', {
      body: fixtures.workspaceEstimate
    });
    expect(await model.estimate('k-1', fixtures.gpu.id)).toEqual(fixtures.workspaceEstimate);
    for (const path of ['sync', 'fetch']) {
      server.answers.set(`POST workspaces/w-1/${path}`, { status: 202, body: fixtures.sync });
    }
    server.answers.set('POST workspaces/w-1/conflicts', { status: 204, body: null });
    await model.sync('w-1');
    await model.sync('w-1', fixtures.syncRequest);
    await model.fetch('w-1', ['model.bin']);
    await model.resolve('w-1', 'data.csv', 'theirs');
    await settle();
    expect(server.bodies).toEqual([
      {},
      fixtures.syncRequest,
      fixtures.fetchRequest,
      fixtures.conflictRequest
    ]);
    expect(server.count('GET workspaces')).toBe(3);
    expect([model.isAskedHere('op-sync'), model.isAskedHere('op-1')]).toEqual([true, false]);
  });

  it('takes files that are copied for no change of the machine and no move', async () => {
    const failed = { ...fixtures.sync, state: 'failed' as const, error: fixtures.problem };
    for (const operation of [fixtures.sync, failed]) {
      server.answers.set('GET operations', { body: { revision: 1, operations: [operation] } });
      await start();
      expect(model.operations).toHaveLength(1);
      expect(model.runningOn(fixtures.gpu.id)).toBeUndefined();
      expect(model.moving('k-1')).toBeUndefined();
      expect(model.failedOn(fixtures.gpu.id)).toBeUndefined();
    }
  });

  it('knows what was spent, and does without where the server does not say', async () => {
    server.answers.delete('GET spend');
    await start();
    expect([model.status, model.error, model.spend]).toEqual(['ready', null, null]);
    server.answers.set('GET spend', { body: fixtures.spend });
    server.emit({ what: 'spend', revision: fixtures.spend.revision });
    await settle();
    expect(model.spend).toEqual(fixtures.spend);
    expect(server.count('GET computes')).toBe(1);
  });

  it('has a machine kept on, and shows at once that it is', async () => {
    const kept = { ...fixtures.idleStop, state: 'kept' as const, stops_at: null };
    await start();
    server.answers.set(`PUT computes/${encodeURIComponent(fixtures.cpu.id)}/idle`, { body: kept });
    let changes = 0;
    model.stateChanged.connect(() => changes++);
    const asked = model.setIdle(fixtures.cpu.id, fixtures.idleRequest);
    expect(await asked).toEqual(kept);
    expect(model.compute(fixtures.cpu.id)?.idle).toEqual(kept);
    expect(changes).toBe(1);
    expect(server.bodies).toEqual([fixtures.idleRequest]);
    await settle();
    expect(server.count('GET computes')).toBe(2); // the server's list is the truth
  });

  it('asks nothing any more once it is disposed', async () => {
    await start();
    model.dispose();
    server.emit({ what: 'computes', revision: 2 });
    model.resync();
    await settle();
    expect(server.asked).toHaveLength(7);
  });
});
