import * as React from 'react';

/**
 * Where the person was on a button that is no longer there, the focus goes to the first one of what came in its place:
 * else the keyboard would start from the top of the page.
 *
 * That is the element with `data-first`. Where what came has none, the focus waits until something has, unless the person has
 * gone elsewhere by then; or it goes to the region itself, which can have it with a `tabIndex`.
 *
 * @returns the region's ref
 */
export function useKeptFocus<T extends HTMLElement>(): React.RefObject<T> {
  const region = React.useRef<T>(null);
  const isLost = React.useRef(false);
  // Before React changes the document: afterwards a removed button no longer tells that it had the focus.
  const hadFocus = !!region.current?.contains(document.activeElement);
  React.useLayoutEffect(() => {
    const { activeElement, body } = document;
    if (activeElement !== null && activeElement !== body) {
      isLost.current = false;
      return;
    }
    if (hadFocus) {
      isLost.current = true;
    }
    const place = region.current;
    if (!isLost.current || !place) {
      return;
    }
    const first = place.querySelector<HTMLElement>('[data-first]') ?? place;
    first.focus();
    isLost.current = document.activeElement !== first;
  });
  return region;
}
