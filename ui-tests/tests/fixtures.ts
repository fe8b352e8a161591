/** What the browser tests start from: emulated Azures for all, one Jupyter server for each. */
import { test as base } from '@playwright/test';
import * as fs from 'fs';
import * as os from 'os';
import * as path from 'path';

import { Emulator } from './emulator';
import { IServerOptions, JupyterServer } from './jupyter-server';
import { SIGN_IN, STATES } from './scenarios';

interface ITestFixtures {
  serverOptions: IServerOptions;
  /** A Jupyter server on the emulated Azure. */
  server: JupyterServer;
  /** A Jupyter server whose jupyter-dsvm is turned off: the page has the extension, the server has not. */
  bareServer: JupyterServer;
  /** Starts a Jupyter server, which ends with the test. */
  startServer: (emulator: Emulator | null, options?: IServerOptions) => Promise<JupyterServer>;
  /** Starts an emulated Azure of this scenario, which ends with the test. */
  startEmulator: (scenario: object, args?: string[]) => Promise<Emulator>;
}

interface IWorkerFixtures {
  /** The usual machines, those with Linux as real SSH servers. */
  emulator: Emulator;
  /** Where people have to sign in; the machines are in its lists only. */
  signInEmulator: Emulator;
  /** A machine in each state that a machine can be in by itself, in its lists only. */
  statesEmulator: Emulator;
  /** The Jupyter server on it. Tests share it: each has machines of its own there. */
  statesServer: JupyterServer;
}

/** An emulated Azure in a folder of its own, until `use` is done. */
async function emulated(
  use: (emulator: Emulator) => Promise<void>,
  args: string[],
  scenario?: object
): Promise<void> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dsvm-emulator-'));
  try {
    if (scenario) {
      const file = path.join(folder, 'scenario.json');
      fs.writeFileSync(file, JSON.stringify(scenario));
      args = [...args, '--scenario', file];
    }
    const emulator = await Emulator.start(folder, args);
    await use(emulator);
    await emulator.end();
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** The first start builds the Python of the machines. */
const SCOPE = { scope: 'worker', timeout: 450_000 } as const;

export const test = base.extend<ITestFixtures, IWorkerFixtures>({
  emulator: [
    // As in the demo, code in a notebook may start the machines.
    async ({}, use) => emulated(use, ['--may-start']),
    SCOPE
  ],

  signInEmulator: [async ({}, use) => emulated(use, ['--sign-in'], SIGN_IN), SCOPE],

  statesEmulator: [async ({}, use) => emulated(use, [], STATES), SCOPE],

  statesServer: [
    async ({ statesEmulator }, use) => {
      const server = await JupyterServer.start({ env: { JUPYTER_CONFIG_DIR: statesEmulator.ready.config_dir } });
      await use(server);
      await server.end();
    },
    SCOPE
  ],

  serverOptions: [{}, { option: true }],

  // It names `startEmulator` so that the servers end before the Azures that they speak to.
  startServer: async ({ startEmulator: _ }, use, testInfo) => {
    const started: JupyterServer[] = [];
    await use(async (emulator, options = {}) => {
      const server = await JupyterServer.start({
        ...options,
        env: { ...(emulator && { JUPYTER_CONFIG_DIR: emulator.ready.config_dir }), ...options.env }
      });
      started.push(server);
      return server;
    });
    for (const server of started) {
      await testInfo.attach('server.log', { body: server.program.logTail(100_000), contentType: 'text/plain' });
      await server.end();
    }
  },

  startEmulator: async ({}, use) => {
    const ends: (() => Promise<void>)[] = [];
    await use(async (scenario, args = []) => {
      let end: () => void = () => undefined;
      const ended = new Promise<void>(resolve => (end = resolve));
      return new Promise<Emulator>((resolve, reject) => {
        const whole = emulated(
          async emulator => {
            resolve(emulator);
            await ended;
          },
          args,
          scenario
        );
        whole.catch(reject);
        ends.push(() => (end(), whole));
      });
    });
    for (const end of ends.reverse()) {
      await end();
    }
  },

  server: async ({ emulator, serverOptions, startServer }, use) => {
    await use(await startServer(emulator, serverOptions));
  },

  bareServer: async ({ startServer }, use) => {
    await use(await startServer(null, { args: ['--ServerApp.jpserver_extensions', 'jupyter_dsvm=False'] }));
  }
});

export { expect } from '@playwright/test';
