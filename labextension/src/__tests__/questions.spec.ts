import { nullTranslator } from '@jupyterlab/translation';
import { fireEvent, screen, waitFor, within } from '@testing-library/dom';

import { IQuestion } from '../api';
import { Questions } from '../questions';
import { FakeModel } from './fakeModel';
import { FakeServer, settle } from './fakeServer';
import { closeDialogs } from './closeDialogs';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');
const question = fixtures.questionList.questions[0];
const OTHER: IQuestion = { ...question, id: 'q-2', kind: 'resize', path: null, price: null };

describe('questions of code in notebooks', () => {
  let server: FakeServer;
  let questions: Questions;
  let revision: number;

  const say = (...open: IQuestion[]) => {
    server.answers.set('GET questions', { body: { revision: ++revision, questions: open } });
    server.emit({ what: 'questions', revision });
  };
  const start = async (...open: IQuestion[]) => {
    server.answers.set('GET questions', { body: { revision: ++revision, questions: open } });
    questions = new Questions({
      serverSettings: server.settings,
      stream: server.stream,
      model: new FakeModel(),
      trans,
      minimumGap: 1,
      retry: { first: 20, longest: 40 }
    });
    await settle(50);
  };
  const dialogs = () => {
    // The browser's own style sheet hides an unopened <dialog>; JupyterLab's shows it, and jsdom has only the first.
    // Once: waitFor looks again at every change.
    document
      .querySelectorAll('dialog:not([open])')
      .forEach(dialog => dialog.setAttribute('open', ''));
    return screen.queryAllByRole('dialog');
  };
  const button = (name: string) => within(dialogs()[0]).getByRole('button', { name });

  beforeEach(() => {
    revision = 0;
    server = new FakeServer();
    server.answers.set('PUT questions/q-1', { status: 204, body: null });
  });

  afterEach(async () => {
    questions.dispose();
    server.dispose();
    await settle();
    closeDialogs();
    document.body.textContent = '';
  });

  it('asks as soon as there is a question, with its price and where the yes is kept', async () => {
    await start();
    expect(dialogs()).toHaveLength(0);
    say(question);
    await waitFor(() => expect(dialogs()).toHaveLength(1));
    const [dialog] = dialogs();
    await waitFor(() => expect(dialog.textContent).toContain('wants to start gpu-vm.'));
    expect(dialog.textContent).toContain('Start gpu-vm?');
    expect(dialog.textContent).toContain('It costs ~$0.53/h until it is stopped.');
    expect(dialog.textContent).toContain('kept for this notebook and this machine for 30 days');
    expect(document.querySelector('.jp-Dsvm-cost')?.getAttribute('title')).toContain('estimate');
    // What is pressed without reading spends nothing.
    await waitFor(() => expect(document.activeElement).toBe(button('Not now')));
    fireEvent.click(button('Start it'));
    await waitFor(() => expect(server.bodies).toEqual([{ answer: 'yes' }]));
    await waitFor(() => expect(dialogs()).toHaveLength(0));
    // An answer of the server that is a moment old does not ask anew.
    say(question);
    await settle(50);
    expect(dialogs()).toHaveLength(0);
  });

  it('asks what was asked before the page was loaded', async () => {
    await start(OTHER);
    await waitFor(() => expect(dialogs()).toHaveLength(1));
    await waitFor(() => expect(dialogs()[0].textContent).toContain('What it costs is not known.'));
    expect(dialogs()[0].textContent).toContain('Change the size of gpu-vm?');
    expect(dialogs()[0].textContent).toContain('for this time only');
    expect(button('Change it')).toBeTruthy();
  });

  it('asks whether what a machine sends may be loaded, which costs nothing', async () => {
    const text = 'A cell of analysis.ipynb wants to bring variables back from gpu-vm.';
    await start({ ...question, kind: 'carry', price: null, text });
    await waitFor(() => expect(dialogs()).toHaveLength(1));
    const [dialog] = dialogs();
    await waitFor(() => expect(dialog.textContent).toContain(text));
    expect(dialog.textContent).toContain('Carry variables from gpu-vm?');
    expect(dialog.textContent).toContain('Your yes is kept for this machine.');
    expect(dialog.textContent).not.toContain('cost');
    await waitFor(() => expect(document.activeElement).toBe(button('Not now')));
    fireEvent.click(button('Carry them'));
    await waitFor(() => expect(server.bodies).toEqual([{ answer: 'yes' }]));
  });

  it.each([
    ['the button', () => fireEvent.click(button('Not now'))],
    ['Escape', () => fireEvent.keyDown(dialogs()[0], { key: 'Escape', keyCode: 27 })]
  ])('says no with %s', async (_, press) => {
    await start(question);
    await waitFor(() => expect(dialogs()).toHaveLength(1));
    press();
    await waitFor(() => expect(server.bodies).toEqual([{ answer: 'no' }]));
    await waitFor(() => expect(dialogs()).toHaveLength(0));
  });

  it('goes away, and says nothing, when it was answered elsewhere', async () => {
    await start(question, OTHER);
    await waitFor(() => expect(dialogs()).toHaveLength(1)); // the other waits its turn
    say(OTHER);
    await waitFor(() => expect(dialogs()[0]?.textContent).toContain('Change the size'));
    say(question);
    await waitFor(() => expect(dialogs()[0]?.textContent).toContain('Start gpu-vm?'));
    say();
    await waitFor(() => expect(dialogs()).toHaveLength(0));
    await settle(50);
    expect(dialogs()).toHaveLength(0);
    expect(server.bodies).toEqual([]);
  });

  it('is over when another page was quicker', async () => {
    await start(question);
    await waitFor(() => expect(dialogs()).toHaveLength(1));
    const late = { code: 'UnknownQuestion', message: 'It is answered.', advice: '' };
    server.answers.set('PUT questions/q-1', { status: 404, body: late });
    fireEvent.click(button('Start it'));
    await waitFor(() => expect(dialogs()).toHaveLength(0));
  });

  it('says so where a collaborator may not answer', async () => {
    await start(question);
    await waitFor(() => expect(dialogs()).toHaveLength(1));
    const forbidden = { code: 'Forbidden', message: 'Forbidden.', advice: 'Sign in again.' };
    server.answers.set('PUT questions/q-1', { status: 403, body: forbidden });
    fireEvent.click(button('Start it'));
    await waitFor(() => expect(dialogs()[0].textContent).toContain('You are not allowed'));
    fireEvent.click(button('Not now'));
    await waitFor(() => expect(dialogs()).toHaveLength(0));
    say(question);
    await settle(50);
    expect(dialogs()).toHaveLength(0); // it is not asked for ever who may not answer
  });

  it('stays open where the server is not reached, and can be tried again', async () => {
    await start(question);
    await waitFor(() => expect(dialogs()).toHaveLength(1));
    server.isAway = true;
    fireEvent.click(button('Start it'));
    await waitFor(() => expect(dialogs()[0].textContent).toContain('did not answer'));
    server.isAway = false;
    fireEvent.click(button('Start it'));
    await waitFor(() => expect(dialogs()).toHaveLength(0));
    expect(server.count('PUT questions/q-1')).toBe(2);
  });

  it('asks again what could not be said no to', async () => {
    await start(question);
    await waitFor(() => expect(dialogs()).toHaveLength(1));
    server.isAway = true;
    fireEvent.click(button('Not now'));
    await waitFor(() => expect(server.count('PUT questions/q-1')).toBe(1));
    await settle(50);
    expect(dialogs()).toHaveLength(0);
    server.isAway = false;
    questions.resync();
    await waitFor(() => expect(dialogs()).toHaveLength(1));
  });
});
