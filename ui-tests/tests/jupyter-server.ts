/** A real Jupyter server for one test: token and XSRF check on, folders of its own, a free port. */
import * as crypto from 'crypto';
import * as fs from 'fs';
import * as os from 'os';
import * as path from 'path';

import { JUPYTER, pause, Program } from './processes';

export interface IServerOptions {
  /** `lab` or `notebook`. */
  app?: 'lab' | 'notebook';
  /** More environment, for one `JUPYTER_CONFIG_DIR` of the emulator. */
  env?: Record<string, string>;
  /** More command line arguments. */
  args?: string[];
}

/** What is used here of the answers of `jupyter-dsvm/`. */
interface IComputeList {
  computes: { id: string; name: string; power_state: string }[];
}

interface IOperation {
  id: string;
  state: string;
  error: unknown;
}

const START_SECONDS = 90;

/** Of JupyterLab's `apputils-extension`. */
const SETTINGS = {
  // It asks every new user about its news; a person would answer once.
  notification: { fetchNews: 'false', checkForUpdates: false },
  // Light or dark as the system is, which a test can change (`page.emulateMedia`).
  themes: { 'adaptive-theme': true }
};

export class JupyterServer {
  static async start(options: IServerOptions = {}): Promise<JupyterServer> {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dsvm-ui-'));
    const at = (name: string): string => {
      const made = path.join(folder, name);
      fs.mkdirSync(made, { mode: 0o700 });
      return made;
    };
    const notebooks = at('notebooks');
    const runtime = at('runtime');
    const settings = at('settings');
    for (const [plugin, values] of Object.entries(SETTINGS)) {
      const file = path.join(settings, '@jupyterlab', 'apputils-extension', `${plugin}.jupyterlab-settings`);
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, JSON.stringify(values));
    }
    const token = crypto.randomBytes(24).toString('hex');
    const args = [
      options.app ?? 'lab',
      '--no-browser',
      '--ServerApp.port=0',
      `--ServerApp.root_dir=${notebooks}`,
      ...(process.getuid?.() === 0 ? ['--allow-root'] : []),
      ...(options.args ?? [])
    ];
    const env = {
      ...process.env,
      JUPYTER_CONFIG_DIR: at('config'),
      JUPYTER_DATA_DIR: at('data'),
      JUPYTER_RUNTIME_DIR: runtime,
      JUPYTERLAB_SETTINGS_DIR: settings,
      JUPYTERLAB_WORKSPACES_DIR: at('workspaces'),
      IPYTHONDIR: at('ipython'),
      // In the environment, since arguments can be read by every user of the computer.
      JUPYTER_TOKEN: token,
      ...options.env
    };
    const server = new JupyterServer(args, env, folder, notebooks, token);
    try {
      await server._untilReady();
      return server;
    } catch (error) {
      await server.end();
      throw error;
    }
  }

  private constructor(
    private readonly _args: string[],
    private readonly _env: NodeJS.ProcessEnv,
    private readonly _folder: string,
    /** The server's root folder. */
    readonly notebooks: string,
    readonly token: string
  ) {
    this._program = this._run(_args);
  }

  get program(): Program {
    return this._program;
  }

  /** With a slash at the end. */
  get url(): string {
    return this._url;
  }

  get port(): number {
    return Number(new URL(this._url).port);
  }

  /** Have pages reach the server through another port of this computer (see `Wire`). */
  pagesThrough(port: number): void {
    this._pagePort = port;
  }

  /** The address of a page, with the token. */
  address(page: string): string {
    const url = new URL(`${this._url}${page}?token=${this.token}`);
    url.port = String(this._pagePort ?? this.port);
    return url.href;
  }

  /** The name of a workspace of JupyterLab's that nobody has used. */
  newWorkspace(): string {
    this._workspaces += 1;
    return `fresh-${this._workspaces}`;
  }

  /** The address of JupyterLab as nobody has left it: with nothing open. */
  freshLab(): string {
    return this.address(`lab/workspaces/${this.newWorkspace()}`);
  }

  /** End the server's process as if it had crashed. */
  async kill(): Promise<void> {
    this._program.process.kill('SIGKILL');
    await this._program.ended;
  }

  /** Start it again after `kill`, as it was: same port, token and folders. */
  async startAgain(): Promise<void> {
    fs.readdirSync(this._runtime).forEach(name => fs.rmSync(path.join(this._runtime, name), { recursive: true }));
    const port = `--ServerApp.port=${this.port}`;
    this._program = this._run([
      ...this._args.filter(arg => !arg.startsWith('--ServerApp.port')),
      port,
      '--ServerApp.port_retries=0'
    ]);
    await this._untilReady();
  }

  /** Copy a file into the root folder. */
  copy(file: string): void {
    fs.copyFileSync(file, path.join(this.notebooks, path.basename(file)));
  }

  /** Put a notebook into the root folder whose code cells have these sources. */
  write(name: string, cells: string[]): void {
    const notebook = {
      cells: cells.map((source, index) => ({
        cell_type: 'code',
        id: `cell-${index}`,
        metadata: {},
        execution_count: null,
        outputs: [],
        source
      })),
      metadata: {
        kernelspec: { name: 'python3', display_name: 'Python 3 (ipykernel)', language: 'python' },
        language_info: { name: 'python' }
      },
      nbformat: 4,
      nbformat_minor: 5
    };
    fs.writeFileSync(path.join(this.notebooks, name), JSON.stringify(notebook));
  }

  /** Ask the REST API as a script would. */
  async rest<T>(route: string, init: RequestInit = {}): Promise<T> {
    const response = await fetch(`${this._url}${route}`, {
      ...init,
      headers: { Authorization: `token ${this.token}`, 'Content-Type': 'application/json' }
    });
    if (!response.ok) {
      throw new Error(`${init.method ?? 'GET'} ${route}: ${response.status} ${await response.text()}`);
    }
    return (response.status === 204 ? undefined : await response.json()) as T;
  }

  /** Have a machine of the emulated Azure deallocated, whatever an earlier test made of it. */
  async turnOff(name: string): Promise<void> {
    const { computes } = await this.rest<IComputeList>('jupyter-dsvm/computes');
    const machine = computes.find(compute => compute.name === name);
    if (!machine) {
      throw new Error(`The server lists no ${name}.`);
    }
    if (machine.power_state === 'deallocated') {
      return;
    }
    let operation = await this.rest<IOperation>(
      `jupyter-dsvm/computes/${encodeURIComponent(machine.id)}/stop`,
      { method: 'POST' }
    );
    while (operation.state === 'running') {
      await pause(200);
      operation = await this.rest<IOperation>(`jupyter-dsvm/operations/${operation.id}`);
    }
    if (operation.state !== 'done') {
      throw new Error(`${name} was not stopped: ${JSON.stringify(operation.error)}`);
    }
  }

  /** End the server and everything it started, and remove its folder. */
  async end(): Promise<void> {
    try {
      // A server that stops leaves kernels on machines running, for the one that comes after it.
      const kernels = await this.rest<{ id: string }[]>('api/kernels');
      await Promise.all(kernels.map(({ id }) => this.rest(`api/kernels/${id}`, { method: 'DELETE' })));
    } catch (error) {
      console.warn('The kernels could not be ended.', error);
    }
    await this._program.end();
    fs.rmSync(this._folder, { recursive: true, force: true });
  }

  private _run(args: string[]): Program {
    this._runs += 1;
    return new Program('JupyterLab', JUPYTER, args, path.join(this._folder, `server-${this._runs}.log`), this._env);
  }

  private get _runtime(): string {
    return path.join(this._folder, 'runtime');
  }

  private async _untilReady(): Promise<void> {
    this._url = await this._program.until(() => this._find(), START_SECONDS);
  }

  /** The address from the server's own file, once the server answers there. */
  private async _find(): Promise<string | undefined> {
    const runtime = this._runtime;
    const file = fs.readdirSync(runtime).find(name => /^jpserver-\d+\.json$/.test(name));
    if (!file) {
      return undefined;
    }
    try {
      const { port, base_url } = JSON.parse(fs.readFileSync(path.join(runtime, file), 'utf-8'));
      const url = `http://127.0.0.1:${port}${base_url}`;
      const response = await fetch(`${url}api/status`, { headers: { Authorization: `token ${this.token}` } });
      return response.ok ? url : undefined;
    } catch {
      // Half written, or not listening yet.
      await pause(100);
      return undefined;
    }
  }

  private _program: Program;
  private _runs = 0;
  private _workspaces = 0;
  private _url = '';
  private _pagePort: number | undefined;
}
