/** Pictures for the documentation, taken anew with `DSVM_SCREENSHOTS=1`. */
import { Locator, Page } from '@playwright/test';
import * as fs from 'fs';
import * as path from 'path';

import { ROOT } from './processes';

export const takesPictures = process.env.DSVM_SCREENSHOTS === '1';

const STATES = path.join(ROOT, 'docs', 'images', 'states');

/** Pixels around what is shown. */
const MARGIN = 8;

/** `docs/images/states/NAME.png`: the place on the page where this is. */
export async function picture(page: Page, shown: Locator, name: string): Promise<void> {
  if (!takesPictures) {
    return;
  }
  await shown.evaluate(node => node.scrollIntoView({ block: 'center' }));
  await page.mouse.move(0, 0); // nothing is hovered over
  const box = await shown.boundingBox();
  if (!box) {
    throw new Error(`There is nothing to take the picture ${name} of.`);
  }
  fs.mkdirSync(STATES, { recursive: true });
  await page.screenshot({
    path: path.join(STATES, `${name}.png`),
    animations: 'disabled',
    clip: {
      x: Math.max(0, box.x - MARGIN),
      y: Math.max(0, box.y - MARGIN),
      width: box.width + 2 * MARGIN,
      height: box.height + 2 * MARGIN
    }
  });
}
