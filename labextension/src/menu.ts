import { Menu } from '@lumino/widgets';

/** Open a menu below the button that was pressed; when it closes, it goes away and the button has the focus again. */
export function openMenu(menu: Menu, anchor: HTMLElement): void {
  const { left, bottom } = anchor.getBoundingClientRect();
  menu.aboutToClose.connect(() => {
    anchor.focus();
    // The menu runs the chosen command after it has closed, so it must outlive this signal.
    window.setTimeout(() => menu.dispose(), 0);
  });
  menu.open(left, bottom);
}
