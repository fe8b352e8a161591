/** Child processes of the tests: started with a log, ended with everything they started. */
import { ChildProcess, spawn } from 'child_process';
import * as fs from 'fs';
import * as path from 'path';

/** The repository's root. */
export const ROOT = path.resolve(__dirname, '..', '..');

/** The Jupyter command: `$JUPYTER`, or that of the repository's virtual environment. */
export const JUPYTER = process.env.JUPYTER ?? path.join(ROOT, '.venv', 'bin', 'jupyter');

/** The Python beside it. */
export const PYTHON = path.join(path.dirname(JUPYTER), 'python');

export class Program {
  /**
   * @param log where stderr goes; stdout too, unless somebody reads it
   */
  constructor(
    readonly name: string,
    command: string,
    args: string[],
    readonly log: string,
    env: NodeJS.ProcessEnv,
    readStdout = false
  ) {
    const output = fs.openSync(log, 'w', 0o600);
    try {
      this.process = spawn(command, args, {
        env,
        // A process group of its own, so that one signal ends it with its children.
        detached: true,
        stdio: ['ignore', readStdout ? 'pipe' : output, output]
      });
    } finally {
      fs.closeSync(output);
    }
    this.process.once('error', error => {
      this._failure = String(error);
    });
    this.ended = new Promise(resolve => {
      this.process.once('close', () => resolve());
      this.process.once('error', () => resolve());
    });
  }

  readonly process: ChildProcess;
  readonly ended: Promise<void>;

  /** Wait until `ready` gives something; fails with the log when the program ends first or takes too long. */
  async until<T>(ready: () => Promise<T | undefined>, seconds: number): Promise<T> {
    const deadline = Date.now() + seconds * 1000;
    while (Date.now() < deadline) {
      const result = await ready();
      if (result !== undefined) {
        return result;
      }
      if (this._failure || this.process.exitCode !== null || this.process.signalCode !== null) {
        throw new Error(`${this.name} ended before it was ready. ${this._failure}\n${this.logTail()}`);
      }
      await pause(100);
    }
    throw new Error(`${this.name} was not ready within ${seconds} s.\n${this.logTail()}`);
  }

  logTail(characters = 4000): string {
    return fs.readFileSync(this.log, 'utf-8').slice(-characters);
  }

  /** SIGTERM to the program, then, if it is still there after a while, SIGKILL to all it started. */
  async end(seconds = 30): Promise<void> {
    if (this.process.pid === undefined) {
      return;
    }
    this.process.kill('SIGTERM');
    await Promise.race([this.ended, pause(seconds * 1000)]);
    try {
      process.kill(-this.process.pid, 'SIGKILL');
    } catch {
      // Nothing of the group is left, as it should be.
    }
    await this.ended;
  }

  private _failure = '';
}

export const pause = (milliseconds: number): Promise<void> =>
  new Promise(resolve => setTimeout(resolve, milliseconds));
