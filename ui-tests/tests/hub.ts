/** A real JupyterHub with its own proxy, whose users' servers use the emulated Azure. */
import { Page } from '@playwright/test';
import * as crypto from 'crypto';
import * as fs from 'fs';
import * as net from 'net';
import * as os from 'os';
import * as path from 'path';

import { Emulator } from './emulator';
import { Serves } from './notebook-page';
import { pause, Program, PYTHON, ROOT } from './processes';

/** Where `make test-ui` puts it. */
export const PROXY = path.join(
  ROOT,
  '.stamps',
  'proxy',
  'node_modules',
  'configurable-http-proxy',
  'bin',
  'configurable-http-proxy'
);

/** The hub is not at the root of its address, as none is in a class. */
const BASE = '/class/';

const CONFIGURATION = `
import json
from pathlib import Path

given = json.loads(Path("given.json").read_text())
c = get_config()
c.JupyterHub.bind_url = given["public"]
c.JupyterHub.hub_bind_url = given["hub"]
c.ConfigurableHTTPProxy.command = given["proxy"]
c.ConfigurableHTTPProxy.api_url = given["proxy_api"]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.services = [{"name": "tests", "api_token": given["token"]}]
c.JupyterHub.load_roles = [
    {"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:servers", "tokens", "shares"]}
]
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = given["homes"] + "/{username}"
c.Spawner.cmd = given["command"]
c.Spawner.args = given["args"]
c.Spawner.environment = given["environment"]
c.Spawner.mem_limit = "4G"
c.Spawner.start_timeout = c.Spawner.http_timeout = 120
`;

export class Hub {
  /**
   * @param environment more of it, for every user's server
   * @param configuration more of the hub's, in Python
   */
  static async start(
    emulator: Emulator,
    environment: Record<string, string> = {},
    configuration = ''
  ): Promise<Hub> {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dsvm-hub-'));
    const [port, hub, api] = await Promise.all([freePort(), freePort(), freePort()]);
    const token = crypto.randomBytes(24).toString('hex');
    const homes = path.join(folder, 'homes');
    const settings = path.join(folder, 'settings', '@jupyterlab', 'apputils-extension');
    fs.mkdirSync(homes);
    fs.mkdirSync(settings, { recursive: true });
    fs.writeFileSync(
      path.join(settings, 'notification.jupyterlab-settings'),
      JSON.stringify({ fetchNews: 'false', checkForUpdates: false })
    );
    const given = {
      public: `http://127.0.0.1:${port}${BASE}`,
      hub: `http://127.0.0.1:${hub}`,
      proxy: ['node', PROXY],
      proxy_api: `http://127.0.0.1:${api}`,
      token,
      homes,
      command: [PYTHON, '-m', 'jupyterhub.singleuser'],
      args: process.getuid?.() === 0 ? ['--allow-root'] : [],
      environment: {
        JUPYTER_CONFIG_DIR: emulator.ready.config_dir,
        JUPYTERLAB_SETTINGS_DIR: path.join(folder, 'settings'),
        JUPYTER_PLATFORM_DIRS: '0',
        ...environment
      }
    };
    fs.writeFileSync(path.join(folder, 'given.json'), JSON.stringify(given), { mode: 0o600 });
    fs.writeFileSync(path.join(folder, 'config.py'), `${CONFIGURATION}${configuration}\n`);
    const log = path.join(folder, 'hub.log');
    const program = new Program(
      'JupyterHub',
      'sh',
      ['-c', 'cd "$0" && exec "$1" -m jupyterhub -f config.py', folder, PYTHON],
      log,
      process.env
    );
    const made = new Hub(program, folder, homes, `http://127.0.0.1:${port}${BASE}`, token);
    try {
      await program.until(async () => ((await made._answers()) ? true : undefined), 90);
      return made;
    } catch (error) {
      await made.end();
      throw error;
    }
  }

  private constructor(
    readonly program: Program,
    private readonly _folder: string,
    private readonly _homes: string,
    /** With a slash at the end. */
    readonly url: string,
    private readonly _token: string
  ) {}

  /** A user's home folder, made if need be. */
  home(user: string): string {
    const home = path.join(this._homes, user);
    fs.mkdirSync(home, { recursive: true });
    return home;
  }

  /** A notebook in a user's home folder, one code cell for each source. */
  write(user: string, name: string, sources: string[]): void {
    const file = path.join(this.home(user), name);
    const cells = sources.map((source, index) => ({
      cell_type: 'code',
      id: `cell-${index}`,
      metadata: {},
      execution_count: null,
      outputs: [],
      source
    }));
    const metadata = { kernelspec: { name: 'python3', display_name: 'Python 3 (ipykernel)', language: 'python' } };
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, JSON.stringify({ cells, metadata, nbformat: 4, nbformat_minor: 5 }));
  }

  /** Let somebody else into a user's server. */
  async share(user: string, guest: string): Promise<void> {
    await this._ask('POST', `users/${guest}`);
    await this._ask('POST', `shares/${user}/`, { user: guest, scopes: [`access:servers!server=${user}/`] });
  }

  /** Start a user's server, as when they log in. */
  async spawn(user: string): Promise<void> {
    this.home(user);
    await this._ask('POST', `users/${user}`);
    await this._ask('POST', `users/${user}/server`);
    while (!(await this._ask<{ server: string | null }>('GET', `users/${user}`)).server) {
      await pause(200);
    }
  }

  /** A user's server as its pages see it: a page has the cookies of its user's login. */
  async serverOf(user: string): Promise<Serves> {
    const { token } = await this._ask<{ token: string }>('POST', `users/${user}/tokens`, { note: 'tests' });
    const base = `${this.url}user/${user}/`;
    let workspaces = 0;
    return {
      address: page => `${base}${page}`,
      newWorkspace: () => `fresh-${(workspaces += 1)}`,
      rest: async <T>(route: string, init: RequestInit = {}): Promise<T> => ask<T>(`${base}${route}`, token, init)
    };
  }

  /** It stops its users' servers and its proxy, too. */
  async end(): Promise<void> {
    await this.program.end(60);
    try {
      // A hub that failed itself leaves its proxy, which has a session of its own.
      process.kill(Number(fs.readFileSync(path.join(this._folder, 'jupyterhub-proxy.pid'), 'utf-8')));
    } catch {
      // It has ended it, as it should.
    }
    fs.rmSync(this._folder, { recursive: true, force: true });
  }

  private async _answers(): Promise<boolean> {
    try {
      await this._ask('GET', '');
      return true;
    } catch {
      return false;
    }
  }

  private _ask<T>(method: string, route: string, body?: unknown): Promise<T> {
    return ask<T>(`${this.url}hub/api/${route}`, this._token, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body)
    });
  }
}

/** On the hub's own page, with any password. */
export async function logIn(page: Page, user: string): Promise<void> {
  await page.getByLabel('Username').fill(user);
  await page.getByLabel('Password').fill('anything');
  await page.getByRole('button', { name: 'Sign in' }).click();
}

async function ask<T>(url: string, token: string, init: RequestInit): Promise<T> {
  const response = await fetch(url, {
    ...init,
    headers: { Authorization: `token ${token}`, 'Content-Type': 'application/json' }
  });
  const text = await response.text();
  if (!response.ok) {
    throw new Error(`${init.method ?? 'GET'} ${url}: ${response.status} ${text}`);
  }
  return (text ? JSON.parse(text) : undefined) as T;
}

/** One that nobody listens on, and not one of those that the system gives out by itself: a kernel could get such a one first. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = crypto.randomInt(20_000, 32_000);
    const free = await new Promise<boolean>(resolve => {
      const probe = net.createServer();
      probe.once('error', () => resolve(false));
      probe.listen(port, () => probe.close(() => resolve(true)));
    });
    if (free) {
      return port;
    }
  }
}
