import { ServerConnection } from '@jupyterlab/services';

/**
 * How many messages of one connection are remembered.
 *
 * After a break the server sends again what it does not know to have arrived: mostly less than a second's worth.
 */
const REMEMBERED = 20_000;

/** How many connections are remembered: a page may have many notebooks open, and a break hits all of them. */
const CONNECTIONS = 100;

const V1 = 'v1.kernel.websocket.jupyter.org';

/** The address of a kernel's websocket: kernel id, session id. */
const CHANNELS = /\/api\/kernels\/([^/?#]+)\/channels\?(?:[^#]*&)?session_id=([^&#]+)/;

/**
 * Have kernel messages that are sent again after a break reach the page once.
 *
 * The server keeps what it sent until it knows that the page has it, and sends the rest again when the page comes back with
 * the same session. So a message can come twice; the second is dropped here, before JupyterLab's kernel connection sees it.
 * Kernel connections take the class from their server settings for each socket that they open, so this must run before the
 * first of them. Other websockets are as before.
 */
export function deliverOnce(settings: ServerConnection.ISettings): void {
  const changeable = settings as { WebSocket: typeof WebSocket };
  changeable.WebSocket = onceOnly(settings.WebSocket);
}

/** The class `Base`, but one that drops repetitions on kernels' channels. All its sockets share what they remember. */
export function onceOnly(Base: typeof WebSocket): typeof WebSocket {
  const connections = new Map<string, Arrived>();

  return class OnceOnlyWebSocket extends Base {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      const match = CHANNELS.exec(String(url));
      if (match === null) {
        return;
      }
      const arrived = recall(connections, `${match[1]} ${match[2]}`);
      // The first listener of this socket, so that it comes before whoever reads the messages.
      this.addEventListener('message', event => {
        const key = messageKey(event.data, this.protocol);
        if (key !== null && !arrived.add(key)) {
          event.stopImmediatePropagation();
        }
      });
    }
  };
}

/** The last messages of one connection. */
class Arrived {
  /** False if it had arrived before. */
  add(key: string): boolean {
    if (this._keys.has(key)) {
      return false;
    }
    this._keys.add(key);
    if (this._keys.size > REMEMBERED) {
      for (const oldest of this._keys) {
        this._keys.delete(oldest);
        break;
      }
    }
    return true;
  }

  private readonly _keys = new Set<string>();
}

/** What is remembered of a connection, which becomes the one used last. */
function recall(connections: Map<string, Arrived>, name: string): Arrived {
  const arrived = connections.get(name) ?? new Arrived();
  connections.delete(name);
  connections.set(name, arrived);
  for (const oldest of connections.keys()) {
    if (connections.size <= CONNECTIONS) {
      break;
    }
    connections.delete(oldest);
  }
  return arrived;
}

/**
 * What tells a kernel message from every other: its id and its date. (Ids are made of the session, the kernel's process id
 * and a count, and a restarted machine may give a process the id of an earlier one.)
 *
 * @returns null for what is no kernel message, or has no id
 */
export function messageKey(data: unknown, protocol: string): string | null {
  try {
    const { msg_id: id, date } = header(data, protocol);
    return typeof id === 'string' && id !== '' ? `${id} ${date}` : null;
  } catch {
    return null;
  }
}

interface IHeader {
  msg_id?: unknown;
  date?: unknown;
}

function header(data: unknown, protocol: string): IHeader {
  if (typeof data === 'string') {
    return JSON.parse(data).header;
  }
  if (!(data instanceof ArrayBuffer)) {
    throw new TypeError('Only text and array buffers carry kernel messages.');
  }
  const view = new DataView(data);
  if (protocol === V1) {
    // The number of offsets, the offsets, then the channel's name, the header, …
    const at = (index: number): number => Number(view.getBigUint64(8 * (1 + index), true));
    return JSON.parse(text(data, at(1), at(2)));
  }
  // The number of parts and their offsets, then the message without its buffers, then these.
  const parts = view.getUint32(0);
  return JSON.parse(text(data, view.getUint32(4), parts > 1 ? view.getUint32(8) : data.byteLength))
    .header;
}

function text(data: ArrayBuffer, start: number, end: number): string {
  return new TextDecoder().decode(new Uint8Array(data, start, end - start));
}
