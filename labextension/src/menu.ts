import { CommandRegistry } from '@lumino/commands';
import { Menu } from '@lumino/widgets';

import { ICompute } from './api';
import { CommandIDs } from './commands';

/** An empty menu for `openMenu`. */
export function newMenu(commands: CommandRegistry): Menu {
  return new Menu({ commands, renderer: new Renderer() });
}

/** What a notebook can be moved to: the free tier, and each machine. */
export function addPlaces(
  menu: Menu,
  machines: readonly ICompute[],
  args: Record<string, string> = {}
): void {
  menu.addItem({ command: CommandIDs.detach, args: { ...args, menu: true } });
  for (const { id } of machines) {
    menu.addItem({ command: CommandIDs.attach, args: { ...args, compute: id, menu: true } });
  }
}

/** Open a menu below the button that was pressed; when it closes, it goes away and the button has the focus again. */
export function openMenu(menu: Menu, anchor: HTMLElement): void {
  menu.addClass('jp-Dsvm-menu');
  const { left, bottom } = anchor.getBoundingClientRect();
  menu.aboutToClose.connect(() => {
    anchor.focus();
    // The menu runs the chosen command after it has closed, so it must outlive this signal.
    window.setTimeout(() => menu.dispose(), 0);
  });
  menu.open(left, bottom);
}

/** Lumino's own says of a separator that it is nothing, and yet lets the keyboard go there. */
class Renderer extends Menu.Renderer {
  renderItem(data: Menu.IRenderData): ReturnType<Menu.Renderer['renderItem']> {
    const item = super.renderItem(data);
    if (data.item.type === 'separator') {
      const attributes: Record<string, unknown> = item.attrs;
      attributes['role'] = 'separator';
      delete attributes['tabindex'];
    }
    return item;
  }
}
