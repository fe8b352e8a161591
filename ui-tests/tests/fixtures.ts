/** What the browser tests start from: one emulated Azure for all, one Jupyter server for each. */
import { test as base } from '@playwright/test';
import * as fs from 'fs';
import * as os from 'os';
import * as path from 'path';

import { Emulator } from './emulator';
import { IServerOptions, JupyterServer } from './jupyter-server';

interface ITestFixtures {
  serverOptions: IServerOptions;
  /** A Jupyter server on the emulated Azure. */
  server: JupyterServer;
  /** A Jupyter server whose jupyter-dsvm is turned off: the page has the extension, the server has not. */
  bareServer: JupyterServer;
}

interface IWorkerFixtures {
  emulator: Emulator;
}

export const test = base.extend<ITestFixtures, IWorkerFixtures>({
  emulator: [
    async ({}, use) => {
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dsvm-emulator-'));
      // As in the demo, code in a notebook may start the machines.
      const emulator = await Emulator.start(folder, ['--may-start']);
      await use(emulator);
      await emulator.end();
      fs.rmSync(folder, { recursive: true, force: true });
    },
    { scope: 'worker', timeout: 450_000 }
  ],

  serverOptions: [{}, { option: true }],

  server: async ({ emulator, serverOptions }, use, testInfo) => {
    const server = await JupyterServer.start({
      ...serverOptions,
      env: { JUPYTER_CONFIG_DIR: emulator.ready.config_dir, ...serverOptions.env }
    });
    await use(server);
    await testInfo.attach('server.log', { body: server.program.logTail(100_000), contentType: 'text/plain' });
    await server.end();
  },

  bareServer: async ({}, use) => {
    const server = await JupyterServer.start({
      args: ['--ServerApp.jpserver_extensions', 'jupyter_dsvm=False']
    });
    await use(server);
    await server.end();
  }
});

export { expect } from '@playwright/test';
