import { nullTranslator } from '@jupyterlab/translation';
import { waitFor } from '@testing-library/dom';

import { ISignIn } from '../api';
import { ComputeModel } from '../model';
import { isSignInProblem, signInView } from '../signin';
import { FakeSignIn } from './fakeModel';
import { FakeServer, settle } from './fakeServer';
import * as fixtures from './fixtures';

const failed: ISignIn = {
  ...fixtures.signedOut,
  state: 'failed',
  id: 'attempt-1',
  error: { code: 'AADSTS53003', message: 'It is blocked.', advice: 'Ask somebody.' }
};

/** What the server says of an attempt to who asks for it by its id: no code. */
const open: ISignIn = { ...fixtures.signIn, code: null, url: null };

describe('signing in', () => {
  let server: FakeServer;
  let model: ComputeModel;

  beforeEach(async () => {
    server = new FakeServer();
    server.answers.set('GET signin', { body: fixtures.signedOut });
    server.answers.set('POST signin', { body: fixtures.signIn });
    server.answers.set('GET signin?id=attempt-1', { body: open });
    server.answers.set('DELETE signin?id=attempt-1', { status: 204, body: null });
    server.answers.set('DELETE signin', { status: 204, body: null });
    model = new ComputeModel({
      serverSettings: server.settings,
      stream: server.stream,
      trans: nullTranslator.load('jupyter_dsvm'),
      minimumGap: 0
    });
    await settle();
  });

  afterEach(() => {
    model.dispose();
    server.dispose();
  });

  const view = () => signInView(model.signIn, true);

  /** The server says that the sign-in has changed. */
  const changed = async (status: ISignIn, own: ISignIn, revision = 2): Promise<void> => {
    server.answers.set('GET signin', { body: { ...status, id: null, revision } });
    server.answers.set('GET signin?id=attempt-1', { body: own });
    server.emit({ what: 'signin', id: 'attempt-1', revision });
    await settle();
  };

  it('shows the code of this page’s attempt until it has ended', async () => {
    expect(view()).toBe('not_set_up');
    await model.signIn.begin();
    expect(server.bodies).toEqual([{}]);
    expect(model.signIn.attempt).toMatchObject({ code: 'ABCD1234', url: fixtures.signIn.url });
    await settle();
    // It was looked at since, and the answer has no code.
    expect(server.count('GET signin?id=attempt-1')).toBe(1);
    expect(model.signIn.attempt?.code).toBe('ABCD1234');
    expect(view()).toBe('prompting');

    await changed(fixtures.signedIn, { ...fixtures.signedIn, id: 'attempt-1' });
    expect(model.signIn.attempt).toBeNull();
    expect(model.signIn.status?.account).toBe('ada@example.com');
    expect(view()).toBe('signed_in');
    const asked = server.count('GET signin?id=attempt-1');
    await changed(fixtures.signedIn, open, 3);
    expect(server.count('GET signin?id=attempt-1')).toBe(asked);
  });

  it('sends tenant and keep only where they were chosen', async () => {
    await model.signIn.begin({ tenant: '', keep: false });
    await model.signIn.begin({ tenant: 'contoso.com', keep: true });
    expect(server.bodies).toEqual([{}, { tenant: 'contoso.com', keep: true }]);
  });

  it('says why an attempt failed, until another one or a dismissal', async () => {
    await model.signIn.begin();
    await changed({ ...failed, error: null, state: 'signed_out' }, failed);
    expect(model.signIn.error?.code).toBe('AADSTS53003');
    expect(view()).toBe('refused');
    await model.signIn.begin();
    expect(model.signIn.error).toBeNull();
    await changed({ ...failed, error: null, state: 'signed_out' }, failed, 3);
    model.signIn.dismiss();
    expect(view()).toBe('not_set_up');
  });

  it('forgets the code when somebody else has signed in or out', async () => {
    await model.signIn.begin();
    await changed(fixtures.signedOut, fixtures.signedOut);
    expect(model.signIn.attempt).toBeNull();
    expect(model.signIn.error).toBeNull();
    expect(view()).toBe('not_set_up');
  });

  it('says so when a restarted server knows nothing of the attempt', async () => {
    await model.signIn.begin();
    const problem = { code: 'UnknownSignIn', message: 'It is not known any more.', advice: '' };
    server.answers.set('GET signin?id=attempt-1', { status: 404, body: problem });
    model.resync();
    await waitFor(() => expect(view()).toBe('refused'));
    expect(model.signIn.error).toMatchObject(problem);
  });

  it('keeps the code while the server is away', async () => {
    await model.signIn.begin();
    await settle();
    server.isAway = true;
    model.resync();
    await waitFor(() => expect(view()).toBe('prompting'));
  });

  it('cancels the attempt, and one whose code was still on its way', async () => {
    await model.signIn.begin();
    await model.signIn.cancel();
    expect(server.count('DELETE signin?id=attempt-1')).toBe(1);
    expect(view()).toBe('not_set_up');

    let goOn = () => {};
    server.gate = new Promise(resolve => (goOn = resolve));
    const begun = model.signIn.begin();
    await waitFor(() => expect(view()).toBe('asking'));
    await model.signIn.cancel();
    expect(view()).toBe('not_set_up');
    goOn();
    server.gate = null;
    await begun;
    expect(server.count('DELETE signin?id=attempt-1')).toBe(2);
    expect(model.signIn.attempt).toBeNull();
  });

  it('sends a pasted token once, and keeps it nowhere', async () => {
    server.answers.set('POST signin', { body: { ...fixtures.signedIn, method: 'pasted_token' } });
    await model.signIn.paste('eyJ0-secret');
    expect(server.bodies).toEqual([{ token: 'eyJ0-secret' }]);
    expect(server.asked.join()).not.toContain('secret');
    expect(view()).toBe('signed_in');
    const text = JSON.stringify(model.signIn, (key, value) => (key === '_options' ? '' : value));
    expect(text).not.toContain('secret');
  });

  it('leaves the choice open where what was chosen is refused', async () => {
    const problem = { code: 'NoEncryptedStore', message: 'It cannot be kept.', advice: 'Do not.' };
    server.answers.set('POST signin', { status: 400, body: problem });
    model.signIn.choose();
    await model.signIn.begin({ keep: true });
    expect(view()).toBe('choosing');
    expect(model.signIn.error).toEqual(problem);
    server.answers.set('POST signin', { body: fixtures.signIn });
    await model.signIn.begin();
    expect(view()).toBe('prompting');
  });

  it('signs out, and says why not', async () => {
    await model.signIn.signOut();
    expect(server.count('DELETE signin')).toBe(1);
    server.answers.set('DELETE signin', { status: 403, body: { message: 'Forbidden' } });
    await model.signIn.signOut();
    expect(model.signIn.error?.message).toContain('403');
  });

  it('does not hold up the list of machines', async () => {
    server.gate = null;
    server.answers.delete('GET signin');
    const slow = new ComputeModel({
      serverSettings: server.settings,
      stream: server.stream,
      trans: nullTranslator.load('jupyter_dsvm'),
      minimumGap: 0
    });
    let isReady = false;
    slow.stateChanged.connect(() => (isReady ||= slow.status === 'ready'));
    await waitFor(() => expect(isReady).toBe(true));
    slow.dispose();
  });
});

describe('signInView', () => {
  const of = (status: ISignIn | null, isNeeded = true) => {
    const signIn = new FakeSignIn([]);
    signIn.status = status;
    return signInView(signIn, isNeeded);
  };

  it('shows nothing before the server has said, and where there is no cloud', () => {
    expect(of(null)).toBe('hidden');
    expect(of(fixtures.signedOut, false)).toBe('hidden');
    expect(of(fixtures.signedOut)).toBe('not_set_up');
  });

  it('tells an expired sign-in from one that never was', () => {
    expect(of({ ...failed, method: 'device_code', account: 'ada@example.com' })).toBe('expired');
    expect(of(failed)).toBe('failed');
  });

  it('sees an attempt of another page', () => {
    expect(of({ ...open, id: null })).toBe('elsewhere');
  });
});

describe('isSignInProblem', () => {
  it.each([
    ['SignInRequired', true],
    ['SignInExpired', true],
    ['AADSTS50173', true],
    ['InvalidAuthenticationToken', true],
    ['ExpiredAuthenticationToken', true],
    ['AuthorizationFailed', false],
    ['Forbidden', false],
    ['Throttled', false]
  ])('%s: %s', (code, expected) => {
    expect(isSignInProblem({ code, message: '', advice: '' })).toBe(expected);
  });
});
