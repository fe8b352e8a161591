/** The page's websockets to kernels: a move neither closes one nor opens another. */
import { Page } from '@playwright/test';

export class Channels {
  /** Made before the page is opened. */
  constructor(page: Page) {
    page.on('websocket', socket => {
      if (!/\/api\/kernels\/[^/]+\/channels/.test(socket.url())) {
        return;
      }
      this.opened += 1;
      socket.on('close', () => (this.closed += 1));
      socket.on('framesent', ({ payload }) => {
        if (payload.includes('"kernel_info_request"')) {
          this.kernelInfoRequests += 1;
        }
      });
    });
  }

  opened = 0;
  closed = 0;
  /** How often the page has asked a kernel what it is. */
  kernelInfoRequests = 0;
}
