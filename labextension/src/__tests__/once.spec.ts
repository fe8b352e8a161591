import { KernelMessage, ServerConnection } from '@jupyterlab/services';

import { deliverOnce, messageKey, onceOnly } from '../once';

const V1 = 'v1.kernel.websocket.jupyter.org';
const CHANNELS = 'ws://localhost:8888/user/me/api/kernels/1234-abcd/channels?session_id=';

/** A server's end: what it sends, the socket that a page opened receives. */
class Wire extends EventTarget {
  static readonly OPEN = 1;
  static readonly opened: Wire[] = [];

  constructor(
    readonly url: string | URL,
    readonly protocols?: string | string[]
  ) {
    super();
    this.protocol = ([protocols].flat()[0] as string | undefined) ?? '';
    Wire.opened.push(this);
  }

  readonly protocol: string;

  send(data: unknown): void {
    this.dispatchEvent(new MessageEvent('message', { data }));
  }
}

const { serializer } = ServerConnection.makeSettings();

function message(
  id: string,
  {
    date = '2026-01-01T00:00:00.000000Z',
    buffers = [],
    text = 'größer 🐘'
  }: { date?: string; buffers?: ArrayBuffer[]; text?: string } = {}
): KernelMessage.IMessage {
  return {
    header: { msg_id: id, msg_type: 'stream', session: 's', username: '', version: '5.3', date },
    parent_header: { msg_id: 'the request' } as KernelMessage.IHeader,
    metadata: {},
    content: { name: 'stdout', text },
    channel: 'iopub',
    buffers
  } as unknown as KernelMessage.IMessage;
}

/** As JupyterLab writes it, which is how the server writes it too. */
const packed = (msg: KernelMessage.IMessage, protocol: string): unknown =>
  serializer.serialize(msg, protocol);

const Page = onceOnly(Wire as unknown as typeof WebSocket);

/** Open a socket as JupyterLab's kernel connection does; `heard` is what reaches it. */
function open(session: string, protocol = V1, base = CHANNELS): { wire: Wire; heard: unknown[] } {
  const heard: unknown[] = [];
  const socket = new Page(base + session, protocol ? [protocol] : []);
  socket.addEventListener('message', event => heard.push(event.data));
  return { wire: Wire.opened[Wire.opened.length - 1], heard };
}

describe('messageKey', () => {
  const buffers = [new Uint8Array([1, 2, 3]).buffer, new ArrayBuffer(0)];

  it.each([
    ['v1', V1, []],
    ['v1 with buffers', V1, buffers],
    ['legacy', '', []],
    ['legacy with buffers', '', buffers]
  ])('reads %s', (_, protocol, buffers) => {
    const data = packed(message('an id', { buffers }), protocol);
    expect(typeof data === 'string').toBe(protocol === '' && buffers.length === 0);
    expect(messageKey(data, protocol)).toBe('an id 2026-01-01T00:00:00.000000Z');
  });

  it('reads the bytes that jupyter_server writes', () => {
    // serialize_msg_to_ws_v1([b'{"msg_id":"m"}', b"{}", b"{}", b"{}"], "iopub")
    const parts = ['iopub', '{"msg_id":"m"}', '{}', '{}', '{}'];
    const offsets = [56];
    parts.forEach(part => offsets.push(offsets[offsets.length - 1] + part.length));
    const bytes = new Uint8Array(offsets[offsets.length - 1]);
    const view = new DataView(bytes.buffer);
    [offsets.length, ...offsets].forEach((value, i) =>
      view.setBigUint64(8 * i, BigInt(value), true)
    );
    bytes.set(new TextEncoder().encode(parts.join('')), 56);
    expect(messageKey(bytes.buffer, V1)).toBe('m undefined');
  });

  it.each([
    ['text that is no JSON', '{', ''],
    ['text without a header', '{}', ''],
    ['a header without an id', '{"header": {"msg_id": ""}}', ''],
    ['nothing', new ArrayBuffer(0), V1],
    ['offsets beyond the end', new Uint8Array(64).fill(255).buffer, V1],
    ['offsets beyond the end of a legacy message', new Uint8Array(64).fill(255).buffer, ''],
    ['a blob', new Blob(['x']), V1]
  ])('knows nothing of %s', (_, data, protocol) => {
    expect(messageKey(data, protocol)).toBeNull();
  });
});

describe.each([
  ['v1', V1],
  ['the legacy protocol', '']
])('a page that speaks %s', (_, protocol) => {
  it('gets a message once, over all sockets of one session', () => {
    const sent = ['1', '2', '3'].map(id => packed(message(`${protocol} ${id}`), protocol));
    const first = open(`again-${protocol}`, protocol);
    first.wire.send(sent[0]);
    first.wire.send(sent[1]);
    first.wire.send(sent[1]);
    const second = open(`again-${protocol}`, protocol);
    sent.forEach(data => second.wire.send(data));
    expect([...first.heard, ...second.heard]).toEqual(sent);
  });

  it('gets it in each of its sessions, and from each of its kernels', () => {
    const data = packed(message('shared'), protocol);
    const sockets = [
      open(`a-${protocol}`, protocol),
      open(`b-${protocol}`, protocol),
      open(`a-${protocol}`, protocol, 'ws://localhost/api/kernels/other/channels?x=1&session_id=')
    ];
    sockets.forEach(({ wire }) => wire.send(data));
    expect(sockets.map(({ heard }) => heard.length)).toEqual([1, 1, 1]);
  });
});

it('takes messages of one id but another time for two', () => {
  const { wire, heard } = open('times');
  wire.send(packed(message('m', { date: '2026-01-01T00:00:00.000001Z' }), V1));
  wire.send(packed(message('m', { date: '2026-01-01T00:00:00.000002Z' }), V1));
  expect(heard).toHaveLength(2);
});

it('lets through what it cannot read', () => {
  const { wire, heard } = open('garbage');
  wire.send('?');
  wire.send('?');
  expect(heard).toEqual(['?', '?']);
});

it('leaves other websockets alone', () => {
  const socket = new Page('ws://localhost/api/events/subscribe');
  let heard = 0;
  socket.addEventListener('message', () => (heard += 1));
  const { wire } = { wire: Wire.opened[Wire.opened.length - 1] };
  wire.send('{"header": {"msg_id": "m"}}');
  wire.send('{"header": {"msg_id": "m"}}');
  expect(heard).toBe(2);
  expect([wire.url, wire.protocols]).toEqual(['ws://localhost/api/events/subscribe', undefined]);
});

it('remembers the last 20,000 messages of a connection, and the last hundred connections', () => {
  const { wire, heard } = open('long');
  const first = packed(message('number 0'), V1);
  for (let i = 0; i < 20_000; i++) {
    wire.send(packed(message(`number ${i}`, { text: '' }), V1));
  }
  wire.send(first);
  expect(heard).toHaveLength(20_000);
  wire.send(packed(message('number 20000'), V1));
  wire.send(first);
  expect(heard).toHaveLength(20_002);

  const kept = open('kept');
  kept.wire.send(first);
  for (let i = 0; i < 99; i++) {
    open(`another ${i}`);
  }
  open('kept').wire.send(first);
  for (let i = 0; i < 100; i++) {
    open(`yet another ${i}`);
  }
  const forgotten = open('kept');
  forgotten.wire.send(first);
  expect([kept.heard.length, forgotten.heard.length]).toEqual([1, 1]);
});

it('takes its place in the settings that kernel connections use', () => {
  const settings = ServerConnection.makeSettings({
    WebSocket: Wire as unknown as typeof WebSocket
  });
  deliverOnce(settings);
  const socket = new settings.WebSocket(`${CHANNELS}settings`, [V1]);
  expect(socket).toBeInstanceOf(Wire);
  expect(settings.WebSocket.OPEN).toBe(1);
  expect(socket.protocol).toBe(V1);
});
