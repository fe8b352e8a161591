/** The emulated Azure, as `jupyter dsvm emulator` runs it. */
import * as fs from 'fs';
import * as path from 'path';

import { Program, PYTHON } from './processes';

/** The line that the emulator prints when it is ready. */
export interface IReadyLine {
  arm: string;
  /** Its Entra's address. */
  entra: string;
  /** `JUPYTER_CONFIG_DIR` for every Jupyter command that is to use it. */
  config_dir: string;
  vms: { name: string; host: string; port: number; disk: string }[];
}

/** The first start builds the Python of the machines. */
const START_SECONDS = 420;

export class Emulator {
  static async start(folder: string, args: string[] = []): Promise<Emulator> {
    fs.mkdirSync(folder, { recursive: true });
    const gathered = process.env.DSVM_TESTS_TRAFFIC; // `make` has it judged afterwards
    if (gathered) {
      fs.mkdirSync(gathered, { recursive: true });
      args = [...args, '--log-traffic', path.join(gathered, `${process.pid}-${Date.now()}.jsonl`)];
    }
    const program = new Program(
      'The emulator',
      PYTHON,
      ['-m', 'jupyter_dsvm', 'emulator', '--dir', path.join(folder, 'azure'), ...args],
      path.join(folder, 'emulator.log'),
      process.env,
      true
    );
    let printed = '';
    program.process.stdout?.on('data', chunk => (printed += chunk));
    try {
      const line = await program.until(
        async () => (printed.includes('\n') ? printed.slice(0, printed.indexOf('\n')) : undefined),
        START_SECONDS
      );
      return new Emulator(program, JSON.parse(line));
    } catch (error) {
      await program.end();
      throw error;
    }
  }

  private constructor(
    private readonly _program: Program,
    readonly ready: IReadyLine
  ) {}

  /** The folder that holds a machine's disk. */
  disk(name: string): string {
    const vm = this.ready.vms.find(vm => vm.name === name);
    if (!vm) {
      throw new Error(`The emulator has no ${name}.`);
    }
    return vm.disk;
  }

  /** Ask its own interface, as docs/emulator.md describes it. */
  async control(method: string, route: string, body?: unknown): Promise<void> {
    const secret = fs.readFileSync(path.join(this.ready.config_dir, 'token'), 'utf-8').trim();
    const response = await fetch(`${this.ready.arm}/control/${route}`, {
      method,
      headers: { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body)
    });
    if (!response.ok) {
      throw new Error(`${method} control/${route}: ${response.status} ${await response.text()}`);
    }
  }

  end(): Promise<void> {
    return this._program.end();
  }
}
