import { Event, ServerConnection } from '@jupyterlab/services';
import { Signal, Stream } from '@lumino/signaling';

import { CHANGED_SCHEMA_ID, IChanged } from '../api';
import * as fixtures from './fixtures';

type Answer = { status?: number; body: unknown };

/** Answers what the model asks, as the test says, and remembers what was asked; sends events. */
export class FakeServer {
  constructor() {
    this.answers.set('GET computes', { body: fixtures.computeList });
    this.answers.set('GET kernels', { body: fixtures.kernelList });
    this.answers.set('GET operations', { body: fixtures.operationList });
    this.answers.set('GET workspaces', { body: { revision: 1, workspaces: [] } });
    this.answers.set('GET spend', { body: fixtures.spend });
    this.answers.set('GET signin', { body: fixtures.signedIn });
    this.answers.set('GET creation', { body: { ...fixtures.creation, allowed: false } });
  }

  /** By method and path, for example `GET computes`. */
  readonly answers = new Map<string, Answer>();
  readonly asked: string[] = [];
  readonly bodies: unknown[] = [];
  readonly stream = new Stream<Event.IManager, Event.Emission>(this as unknown as Event.IManager);

  /** Whether requests fail before they reach anything. */
  isAway = false;

  /** While set, answers wait for it. */
  gate: Promise<void> | null = null;

  readonly settings = ServerConnection.makeSettings({
    baseUrl: 'http://localhost/',
    fetch: async (input: RequestInfo) => {
      const asked = input as Request;
      const key = `${asked.method} ${asked.url.split('/jupyter-dsvm/')[1].replace(/[?&]\d+$/, '')}`;
      this.asked.push(key);
      const body = await asked.text();
      if (body) {
        this.bodies.push(JSON.parse(body));
      }
      await this.gate;
      if (this.isAway) {
        throw new TypeError('Failed to fetch');
      }
      const answer = this.answers.get(key);
      if (!answer) {
        return new Response('<html>Not found</html>', { status: 404 });
      }
      const { status = 200 } = answer;
      return new Response(status === 204 ? null : JSON.stringify(answer.body), { status });
    }
  });

  emit(changed: IChanged, schema_id = CHANGED_SCHEMA_ID): void {
    this.stream.emit({ schema_id, ...changed } as unknown as Event.Emission);
  }

  count(key: string): number {
    return this.asked.filter(asked => asked === key).length;
  }

  dispose(): void {
    this.stream.stop();
    Signal.clearData(this);
  }
}

/** How often `settle` lets others run: more often than anything here passes its work on. */
const TURNS = 25;

/**
 * Let timers of the model, the promises of the fake and what React has to render run: for so long, and for as many turns of the
 * event loop. Where the machine is busy, one timer alone would be over before the rest had its turn.
 */
export async function settle(milliseconds = 20): Promise<void> {
  const end = performance.now() + milliseconds;
  for (let turn = 0; turn < TURNS || performance.now() < end; turn++) {
    await new Promise(resolve => setTimeout(resolve, 1));
  }
}
