/** The network between the page and its server: a port of this computer that leads to another, and can be cut. */
import * as net from 'net';

export class Wire {
  static async to(port: number): Promise<Wire> {
    const wire = new Wire(port);
    await new Promise<void>((resolve, reject) => {
      wire._listener.once('error', reject);
      wire._listener.listen(0, '127.0.0.1', () => resolve());
    });
    return wire;
  }

  private constructor(private readonly _to: number) {
    this._listener = net.createServer({ noDelay: true }, page => this._connected(page));
  }

  get port(): number {
    return (this._listener.address() as net.AddressInfo).port;
  }

  /** Reset all connections, and refuse new ones until `mend`. */
  cut(): void {
    this._isCut = true;
    this._sockets.forEach(socket => socket.resetAndDestroy());
  }

  mend(): void {
    this._isCut = false;
  }

  async end(): Promise<void> {
    this.cut();
    await new Promise(resolve => this._listener.close(resolve));
  }

  private _connected(page: net.Socket): void {
    if (this._isCut) {
      page.resetAndDestroy();
      return;
    }
    const server = net.connect({ port: this._to, host: '127.0.0.1', noDelay: true });
    for (const [socket, other] of [
      [page, server],
      [server, page]
    ]) {
      this._sockets.add(socket);
      socket.pipe(other);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        this._sockets.delete(socket);
        other.destroy();
      });
    }
  }

  private readonly _listener: net.Server;
  private readonly _sockets = new Set<net.Socket>();
  private _isCut = false;
}
