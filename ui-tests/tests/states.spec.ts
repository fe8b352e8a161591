/**
 * Each row of the panel's table of states, made by the emulated Azure: what is said, what the button is, and that axe
 * finds nothing. With DSVM_SCREENSHOTS=1 each leaves a picture in docs/images/states.
 */
import { DIALOG, faults, faultsInBothThemes, leave, PANEL } from './accessibility';
import { ComputePanel } from './compute-panel';
import { expect, test } from './fixtures';
import { NotebookPage } from './notebook-page';
import { picture } from './pictures';
import { EMPTY } from './scenarios';

/** What is said where no machine says it. */
const SAID = {
  loading: /Loading the list of machines/,
  empty: /No machines yet\. Ask your administrator, or create one\./,
  notSetUp: 'Connect your Azure subscription to use bigger machines.',
  signingIn: /Open .+ and enter/,
  signedOut: 'Your Azure sign-in has expired. Running kernels are not affected.'
};

interface IRow {
  /** The picture's name. */
  row: string;
  machine: string;
  /** The name of the state in the page. */
  state: string;
  text: RegExp;
  /** Null where there is none. */
  button: string | null;
  tone: string;
}

/** What a machine is by itself, with a notebook open that could go there. */
const AT_REST: IRow[] = [
  {
    row: 'deallocated',
    machine: 'off-vm',
    state: 'deallocated',
    text: /^Off\. Disk and static address still cost/,
    button: 'Start and attach',
    tone: 'off'
  },
  {
    row: 'stopped',
    machine: 'stopped-vm',
    state: 'stopped',
    text: /^Off, but still billed ~\$0\.66\/h\./,
    button: 'Release',
    tone: 'warn'
  },
  {
    row: 'running',
    machine: 'on-vm',
    state: 'running',
    text: /^On\. Nothing attached\./,
    button: 'Attach this notebook',
    tone: 'on'
  },
  {
    row: 'hibernated',
    machine: 'asleep-vm',
    state: 'hibernated',
    text: /^Asleep\. Memory is kept; it can only be started as it is\./,
    button: 'Start',
    tone: 'off'
  },
  {
    row: 'windows',
    machine: 'win-vm',
    state: 'windows',
    text: /Start, stop and resize work; notebooks cannot run there yet\./,
    button: 'Start',
    tone: 'off'
  }
];

/** What starting a machine comes to where Azure does not do it. */
const REFUSED: IRow[] = [
  {
    row: 'no-capacity',
    machine: 'scarce-vm',
    state: 'noCapacity',
    text: /^Azure has no NC24ads_A100_v4 in westeurope now\./,
    button: 'Try another size',
    tone: 'warn'
  },
  {
    row: 'over-quota',
    machine: 'crowded-vm',
    state: 'overQuota',
    text: /^Quota is \d+ of \d+ vCPUs for this family\./,
    button: 'Request quota',
    tone: 'warn'
  },
  {
    row: 'free-account',
    machine: 'trial-vm',
    state: 'freeAccount',
    text: /^Azure free accounts cannot use GPU sizes\./,
    button: 'Show CPU sizes',
    tone: 'warn'
  },
  {
    row: 'not-allowed',
    machine: 'guest-vm',
    state: 'notAllowed',
    text: /^You can see this machine but not start it\./,
    button: null,
    tone: 'off'
  }
];

/** Of a machine that something happens to. */
const STARTING: IRow = {
  row: 'starting',
  machine: 'starting-vm',
  state: 'busy',
  text: /^Step \d of \d: /,
  button: null,
  tone: 'busy'
};
const ATTACHED: IRow = {
  row: 'attached',
  machine: 'cpu-vm',
  state: 'attached',
  text: /^Running a\.ipynb\./,
  button: 'Return to free tier',
  tone: 'on'
};
const RESIZING: IRow = {
  row: 'resizing',
  machine: 'cpu-vm',
  state: 'resizing',
  text: /^Step \d of \d: .* One notebook goes back to the free tier\./,
  button: null,
  tone: 'busy'
};
const UNREACHABLE: IRow = {
  row: 'unreachable',
  machine: 'cpu-vm',
  state: 'unreachable',
  text: /^Lost contact at .*\. Your kernel may still be running; reconnecting\./,
  button: 'Reconnect now',
  tone: 'warn'
};

/** That a machine's card says what the row says. */
async function expectRow(compute: ComputePanel, row: IRow): Promise<void> {
  const card = compute.card(row.machine);
  await expect(card).toHaveAttribute('data-state', row.state, { timeout: 60_000 });
  await expect(card).toHaveAttribute('data-tone', row.tone);
  await expect(compute.state(row.machine)).toHaveText(row.text);
  await expect(card.locator('.jp-Dsvm-primary')).toHaveText(row.button === null ? [] : [row.button]);
  await picture(compute.page, card, row.row);
}

test('machines at rest', async ({ page, statesServer }) => {
  statesServer.write('rest.ipynb', ['1 + 1']);
  await new NotebookPage(page, statesServer).open('rest.ipynb');
  const compute = new ComputePanel(page);
  await compute.open();
  for (const row of AT_REST) {
    await test.step(row.row, () => expectRow(compute, row));
  }
  expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
});

test('a machine that starts', async ({ page, statesServer, statesEmulator }) => {
  await page.goto(statesServer.freshLab());
  const compute = new ComputePanel(page);
  await compute.open();
  await statesEmulator.control('PUT', 'timings', { start: 120 });
  try {
    await compute.button('starting-vm', 'Start').click();
    await expect(compute.button('starting-vm', 'Stop waiting')).toBeVisible();
    await expect(compute.card('starting-vm').getByRole('progressbar')).toBeVisible();
    await expectRow(compute, STARTING);
    expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
  } finally {
    await statesEmulator.control('PUT', 'timings', { start: 0.5 });
  }
  await compute.button('starting-vm', 'Stop waiting and release').click();
  await expect(compute.state('starting-vm')).toHaveText(/^Off\. /);
});

test('a start that Azure refuses', async ({ page, statesServer }) => {
  await page.goto(statesServer.freshLab());
  const compute = new ComputePanel(page);
  await compute.open();
  for (const row of REFUSED) {
    await test.step(row.row, async () => {
      await compute.button(row.machine, 'Start').click();
      await expectRow(compute, row);
    });
  }
  expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
  await test.step('what leads on', async () => {
    const quota = compute.card('crowded-vm').getByRole('link', { name: 'Request quota' });
    await expect(quota).toHaveAttribute('href', /^https:\/\/(aka\.ms|portal\.azure\.com)\//);
    await expect(quota).toHaveAttribute('rel', 'noopener noreferrer');
    await compute.button('trial-vm', 'Show CPU sizes').click();
    await expect(compute.dialog.getByRole('radio').first()).toBeVisible();
    await expect(compute.dialog).not.toContainText('T4');
    await leave(page, DIALOG);
    await compute.card('scarce-vm').getByText('What Azure said').click();
    await expect(compute.card('scarce-vm')).toContainText('AllocationFailed');
    expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
  });
  for (const { machine, row } of REFUSED) {
    await compute.button(machine, 'Dismiss').click();
    await expect(compute.card(machine).getByText('What Azure said')).toHaveCount(0);
    await expect(compute.button(machine, 'Start')).toHaveCount(row === 'not-allowed' ? 0 : 1);
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
  await compute.launched();
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

test('attached, out of reach, and resized with a notebook on it', async ({ page, server, emulator }) => {
  server.write('a.ipynb', ['1 + 1']);
  const notebook = new NotebookPage(page, server);
  const compute = new ComputePanel(page);
  await notebook.open('a.ipynb');
  await compute.open();
  await compute.move('cpu-vm', 'Attach this notebook');
  await notebook.untilOn('cpu-vm');

  await test.step('attached', async () => {
    await expectRow(compute, ATTACHED);
    expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
  });

  await test.step('out of reach', async () => {
    await emulator.control('POST', 'vms/cpu-vm/kill-ssh');
    try {
      await expectRow(compute, UNREACHABLE);
      await expect(compute.card('cpu-vm')).toContainText(/Lost contact .+ ago\..*reconnecting \(\d+\)/);
      await expect(notebook.chip).toContainText('cpu-vm · reconnecting');
      expect(await faultsInBothThemes(page, PANEL, '.jp-Dsvm-chip')).toEqual([]);
    } finally {
      await emulator.control('POST', 'vms/cpu-vm/start-ssh');
    }
    await compute.button('cpu-vm', 'Reconnect now').click({ timeout: 5_000 }).catch(() => undefined); // it may have by itself
    await expect(compute.card('cpu-vm')).toHaveAttribute('data-state', 'attached', { timeout: 60_000 });
  });

  await test.step('resizing', async () => {
    await emulator.control('PUT', 'timings', { deallocate: 6 });
    try {
      await compute.choose('cpu-vm', /^Resize/);
      await compute.dialog.getByRole('radio', { name: 'D2ds_v5', exact: true }).check();
      await compute.dialog.getByRole('checkbox', { name: /^End the kernel of a\.ipynb/ }).check();
      await compute.dialog.getByRole('button', { name: 'Resize' }).click();
      await expectRow(compute, RESIZING);
      expect(await faultsInBothThemes(page, PANEL)).toEqual([]);
    } finally {
      await emulator.control('PUT', 'timings', { deallocate: 2 });
    }
    await expect(compute.card('cpu-vm')).toContainText('2 CPU · 8 GB', { timeout: 60_000 });
  });

  await test.step('as it was', async () => {
    await notebook.untilOn('Free tier'); // by itself
    await compute.choose('cpu-vm', /^Resize/);
    await compute.dialog.getByRole('radio', { name: 'D4ds_v5', exact: true }).check();
    await compute.dialog.getByRole('button', { name: 'Resize' }).click();
    await expect(compute.card('cpu-vm')).toContainText('4 CPU · 16 GB', { timeout: 60_000 });
  });
});
