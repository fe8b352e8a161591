/**
 * Each row of the panel's table of states, made by the emulated Azure: what is said, what the button is, and that axe
 * finds nothing. With DSVM_SCREENSHOTS=1 each leaves a picture in docs/images/states.
 */
import { Locator } from '@playwright/test';

import { faults, faultsInBothThemes, PANEL } from './accessibility';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';
import { picture } from './pictures';
import { EMPTY } from './scenarios';

/** The texts; `button` is null where there is none. */
const SAID = {
  loading: /Loading the list of machines/,
  empty: /No machines yet\. Ask your administrator, or create one\./,
  notSetUp: 'Connect your Azure subscription to use bigger machines.',
  signingIn: /Open .+ and enter/,
  signedOut: 'Your Azure sign-in has expired. Running kernels are not affected.',
  attached: /^Running a\.ipynb\./,
  unreachable: /Lost contact .*Your kernel may still be running; reconnecting \(\d+\)\./,
  starting: /^Step \d of \d: /,
  resizing: /^Step \d of \d: /
};

interface IRow {
  row: string;
  machine: string;
  text: RegExp;
  button: string | null;
  tone: string;
}

/** What a machine is by itself, with a notebook open that could go there. */
const AT_REST: IRow[] = [
  { row: 'deallocated', machine: 'off-vm', text: /^Off\. /, button: 'Start and attach', tone: 'off' },
  {
    row: 'stopped',
    machine: 'stopped-vm',
    text: /^Off, but still billed.*\$0\.66\/h/,
    button: 'Release',
    tone: 'warn'
  },
  {
    row: 'running',
    machine: 'on-vm',
    text: /^On\. Nothing attached\./,
    button: 'Attach this notebook',
    tone: 'on'
  },
  {
    row: 'hibernated',
    machine: 'asleep-vm',
    text: /^Asleep\. Memory is kept; it can only be started as it is\./,
    button: 'Start',
    tone: 'off'
  },
  {
    row: 'windows',
    machine: 'win-vm',
    text: /Start, stop and .* work; notebooks cannot run .* yet\./,
    button: 'Start',
    tone: 'off'
  }
];

/** What starting a machine comes to: the first sentence of the problem, and what can be done. */
const REFUSED = [
  {
    row: 'no-capacity',
    machine: 'scarce-vm',
    code: 'AllocationFailed',
    text: /Azure has no capacity for this size there at the moment/
  },
  {
    row: 'over-quota',
    machine: 'crowded-vm',
    code: 'OperationNotAllowed',
    text: /quota of cores is used up/
  },
  {
    row: 'free-account',
    machine: 'trial-vm',
    code: 'OperationNotAllowed',
    text: /its quota is 0/
  }
];

const buttons = (card: Locator): Locator => card.locator('button.jp-Dsvm-primary');

test('machines at rest', async ({ page, statesServer }) => {
  statesServer.write('rest.ipynb', ['1 + 1']);
  await new NotebookPage(page, statesServer).open('rest.ipynb');
  const compute = new ComputePanel(page);
  await compute.open();
  for (const { row, machine, text, button, tone } of AT_REST) {
    await test.step(row, async () => {
      const card = compute.card(machine);
      await expect(compute.state(machine)).toHaveText(text);
      await expect(card).toHaveAttribute('data-tone', tone);
      await expect(buttons(card)).toHaveText(button === null ? [] : [button]);
      await picture(page, card, row);
    });
  }
  expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
});

test('a machine that starts', async ({ page, statesServer, statesEmulator }) => {
  await page.goto(statesServer.address('lab'));
  const compute = new ComputePanel(page);
  await compute.open();
  await statesEmulator.control('PUT', 'timings', { start: 120 });
  try {
    await compute.button('starting-vm', 'Start').click();
    await expect(compute.state('starting-vm')).toHaveText(SAID.starting);
    await expect(compute.card('starting-vm')).toHaveAttribute('data-tone', 'busy');
    await expect(compute.card('starting-vm').getByRole('progressbar')).toBeVisible();
    await expect(compute.button('starting-vm', 'Stop waiting')).toBeVisible();
    expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
    await picture(page, compute.card('starting-vm'), 'starting');
  } finally {
    await statesEmulator.control('PUT', 'timings', { start: 0.5 });
  }
  await compute.button('starting-vm', 'Stop waiting and release').click();
  await expect(compute.state('starting-vm')).toHaveText(/^Off\. /);
});

test('a start that Azure refuses', async ({ page, statesServer }) => {
  await page.goto(statesServer.address('lab'));
  const compute = new ComputePanel(page);
  await compute.open();
  for (const { row, machine, code, text } of REFUSED) {
    await test.step(row, async () => {
      await compute.button(machine, 'Start').click();
      const problem = compute.card(machine).getByRole('alert');
      await expect(problem).toHaveAttribute('data-code', code);
      await expect(problem).toContainText(text);
      await picture(page, compute.card(machine), row);
    });
  }
  expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
  for (const { machine } of REFUSED) {
    await compute.button(machine, 'Dismiss').click();
    await expect(compute.card(machine).getByRole('alert')).toHaveCount(0);
    await expect(compute.button(machine, 'Start')).toBeVisible();
  }
});

test('no data yet, then no machines', async ({ page, startEmulator, startServer }) => {
  const emulator = await startEmulator({ ...EMPTY, latency: [{ operation: 'graph', seconds: 4 }] });
  const server = await startServer(emulator);
  await page.goto(server.address('lab'));
  const compute = new ComputePanel(page);
  await compute.open();
  await test.step('loading', async () => {
    await expect(compute.panel.locator('[aria-busy="true"]')).toBeVisible();
    await expect(compute.panel.getByRole('status')).toHaveText(SAID.loading);
    await picture(page, compute.panel.locator('.jp-Dsvm-cards'), 'loading');
    expect(await faults(page, PANEL)).toEqual([]);
  });
  await test.step('empty', async () => {
    await expect(compute.panel).toContainText(SAID.empty);
    await expect(compute.panel.locator('[aria-busy="true"]')).toHaveCount(0);
    await picture(page, compute.panel.locator('.jp-Dsvm-empty'), 'empty');
    expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
    await compute.panel.locator('.jp-Dsvm-empty').getByRole('button').click();
    await expect(compute.dialog).toBeVisible();
  });
});

test('not set up, signing in, signed out', async ({ page, signInEmulator, startServer }) => {
  await signInEmulator.control('PUT', 'entra', { interval: 1, code_lifetime: 900 });
  const server = await startServer(signInEmulator);
  await page.goto(server.address('lab'));
  const compute = new ComputePanel(page);
  await compute.open();
  await test.step('not set up', async () => {
    await expect(compute.signIn.getByRole('status')).toHaveText(SAID.notSetUp);
    await picture(page, compute.signIn, 'not-set-up');
    expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
  });
  await test.step('signing in', async () => {
    await compute.signInButton('Sign in').click();
    await expect(compute.signInButton('Copy code')).toBeFocused();
    await expect(compute.signIn).toContainText(SAID.signingIn);
    await picture(page, compute.signIn, 'signing-in');
    expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
    await signInEmulator.control('POST', 'entra/enter', { user_code: await compute.code() });
    await expect(compute.card('cpu-vm')).toBeVisible();
  });
  await test.step('signed out', async () => {
    await signInEmulator.control('POST', 'entra/revoke');
    // Azure takes the token no more; that the sign-in is over, Entra says when a new one is asked for.
    await compute.refresh();
    await expect(compute.panel.getByRole('button', { name: 'Sign in again' })).toBeVisible();
    await compute.refresh();
    await expect(compute.signIn.getByRole('status').first()).toHaveText(SAID.signedOut);
    await expect(compute.card('cpu-vm')).toBeVisible();
    await picture(page, compute.signIn, 'signed-out');
    expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
  });
});

test('attached, out of reach, and resized with notebooks on it', async ({ page, server, emulator }) => {
  server.write('a.ipynb', ['1 + 1']);
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  await notebook.open('a.ipynb');
  await compute.open();
  await compute.move('cpu-vm', 'Attach this notebook');
  await notebook.untilOn('cpu-vm');

  await test.step('attached', async () => {
    await expect(compute.state('cpu-vm')).toHaveText(SAID.attached);
    await expect(compute.card('cpu-vm')).toHaveAttribute('data-tone', 'on');
    await expect(buttons(compute.card('cpu-vm'))).toHaveText('Return to free tier');
    await picture(page, compute.card('cpu-vm'), 'attached');
    expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
  });

  await test.step('out of reach', async () => {
    await emulator.control('POST', 'vms/cpu-vm/kill-ssh');
    try {
      await expect(compute.state('cpu-vm')).toHaveText(SAID.unreachable);
      await expect(compute.card('cpu-vm')).toHaveAttribute('data-tone', 'warn');
      await expect(notebook.chip).toContainText('cpu-vm · reconnecting');
      await picture(page, compute.card('cpu-vm'), 'unreachable');
      expect(await faultsInBothThemes(page, PANEL, '.jp-Dsvm-chip')).toEqual([]);
    } finally {
      await emulator.control('POST', 'vms/cpu-vm/start-ssh');
    }
    await expect(compute.state('cpu-vm')).toHaveText(SAID.attached, { timeout: 60_000 });
  });
});
