import { ISessionContext } from '@jupyterlab/apputils';
import { Signal } from '@lumino/signaling';

import { ComputeModel } from '../model';
import { WaitingCells } from '../waitingcells';
import { nullTranslator } from '@jupyterlab/translation';
import { FakeServer, settle } from './fakeServer';
import * as fixtures from './fixtures';

/** As much of a session context as is listened to. */
function fakeContext() {
  const session = { kernel: { id: fixtures.kernel.id } };
  const anyMessage = new Signal<object, object>(session);
  Object.assign(session, { anyMessage });
  const context: { session: object | null } = { session: null };
  const signals = {
    sessionChanged: new Signal<object, object>(context),
    kernelChanged: new Signal<object, object>(context),
    statusChanged: new Signal<object, string>(context)
  };
  Object.assign(context, signals);
  const begin = () => {
    context.session = session;
    signals.sessionChanged.emit({ oldValue: null, newValue: session });
  };
  const send = (id: string, metadata: object = { cellId: 'c' }) =>
    anyMessage.emit({
      direction: 'send',
      msg: { header: { msg_type: 'execute_request', msg_id: id }, metadata, parent_header: {} }
    });
  const receive = (type: string, parent: string) =>
    anyMessage.emit({
      direction: 'recv',
      msg: {
        header: { msg_type: type, msg_id: 'x' },
        metadata: {},
        parent_header: { msg_id: parent }
      }
    });
  return { context: context as unknown as ISessionContext, signals, begin, send, receive };
}

describe('cells that wait', () => {
  it('are those that were sent and have not begun', () => {
    const cells = new WaitingCells();
    const fake = fakeContext();
    cells.watch(fake.context);
    fake.begin();
    const count = () => cells.count(fixtures.kernel.id);
    fake.send('1');
    fake.send('2');
    fake.send('3');
    fake.send('of no cell', {});
    expect(count()).toBe(3);
    expect(cells.count('k-2')).toBe(0);
    fake.receive('status', '1');
    expect(count()).toBe(3);
    fake.receive('execute_input', '1');
    fake.receive('execute_reply', '1');
    expect(count()).toBe(2);
    fake.receive('execute_reply', '2'); // aborted
    expect(count()).toBe(1);
    fake.signals.statusChanged.emit('busy');
    expect(count()).toBe(1);
    fake.signals.statusChanged.emit('restarting');
    expect(count()).toBe(0);
    fake.send('4');
    fake.signals.kernelChanged.emit({ oldValue: { id: fixtures.kernel.id }, newValue: null });
    expect(count()).toBe(0);
  });

  it('are news while the notebook moves, and at no other time', async () => {
    const cells = new WaitingCells();
    const fake = fakeContext();
    cells.watch(fake.context);
    fake.begin();
    const server = new FakeServer();
    const model = new ComputeModel({
      serverSettings: server.settings,
      stream: server.stream,
      trans: nullTranslator.load('jupyter_dsvm'),
      cells,
      minimumGap: 0
    });
    await settle();
    let changes = 0;
    model.stateChanged.connect(() => changes++);
    fake.send('1');
    expect([changes, model.waiting(fixtures.kernel.id)]).toEqual([0, 1]);
    const kernels = [{ ...fixtures.kernel, moving_to: fixtures.gpu.id }];
    server.answers.set('GET kernels', { body: { revision: 2, kernels } });
    server.emit({ what: 'kernels', revision: 2 });
    await settle();
    changes = 0;
    fake.send('2');
    expect([changes, model.waiting(fixtures.kernel.id)]).toEqual([1, 2]);
    model.dispose();
    server.dispose();
  });
});
