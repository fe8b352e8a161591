import { useVirtualizer, defaultRangeExtractor, Range } from '@tanstack/react-virtual';
import * as React from 'react';

import { ICompute } from '../api';
import { h } from '../jsx';
import { IPlacement } from './Card';

/** Up to so many are all in the document: then the browser's own search, and every reader, finds them. */
export const ALL_SHOWN = 30;

/** Pixels: what a card takes that has not been measured yet, and what is between two of them. */
const USUAL_HEIGHT = 124;
const GAP = 8;

/** Cards beyond both ends of what is visible. The keyboard goes to them, and the list follows. */
const BEYOND = 6;

export interface IMachineListProps {
  machines: readonly ICompute[];
  label: string;
  /** The machine's card, with its key; with a placement where only a part of the list is there. */
  card: (compute: ICompute, placement?: IPlacement) => React.ReactElement;
}

/** The machines, one card each. Of hundreds only those in sight are in the document, and the one that has the focus. */
export function MachineList(props: IMachineListProps): React.ReactElement {
  return props.machines.length > ALL_SHOWN ? (
    <LongList {...props} />
  ) : (
    <ul className="jp-Dsvm-cards" aria-label={props.label}>
      {props.machines.map(compute => props.card(compute))}
    </ul>
  );
}

function LongList(props: IMachineListProps): React.ReactElement {
  const { machines, label, card } = props;
  const list = React.useRef<HTMLUListElement>(null);
  const [focused, setFocused] = React.useState<string | null>(null);
  const margin = useTop(list);
  const kept = machines.findIndex(({ id }) => id === focused);

  const virtualizer = useVirtualizer({
    count: machines.length,
    getScrollElement: () => scroller(list.current),
    estimateSize: () => USUAL_HEIGHT,
    getItemKey: index => machines[index].id,
    rangeExtractor: range => withKept(range, kept),
    gap: GAP,
    overscan: BEYOND,
    scrollMargin: margin
  });

  return (
    <ul
      ref={list}
      className="jp-Dsvm-cards jp-mod-long"
      aria-label={label}
      style={{ height: virtualizer.getTotalSize() }}
      onFocus={event => setFocused(cardOf(event.target))}
      onBlur={event => {
        if (!list.current?.contains(event.relatedTarget)) {
          setFocused(null);
        }
      }}
    >
      {virtualizer.getVirtualItems().map(({ index, start }) =>
        card(machines[index], {
          index,
          count: machines.length,
          measure: virtualizer.measureElement,
          style: { transform: `translateY(${start - margin}px)` }
        })
      )}
    </ul>
  );
}

/** In the order of the list, since that is the order of the keyboard. */
function withKept(range: Range, kept: number): number[] {
  const shown = defaultRangeExtractor(range);
  return kept < 0 || shown.includes(kept) ? shown : [...shown, kept].sort((a, b) => a - b);
}

function scroller(list: HTMLElement | null): HTMLElement | null {
  return list?.closest<HTMLElement>('.jp-Dsvm-panel') ?? null;
}

function cardOf(element: Element): string | null {
  return element.closest<HTMLElement>('[data-compute]')?.dataset.compute ?? null;
}

/** How far below the beginning of what scrolls the list begins. */
function useTop(list: React.RefObject<HTMLElement>): number {
  const [top, setTop] = React.useState(0);
  const measure = React.useCallback(() => {
    const outer = scroller(list.current);
    if (list.current && outer) {
      const distance = list.current.getBoundingClientRect().top - outer.getBoundingClientRect().top;
      setTop(Math.round(distance + outer.scrollTop));
    }
  }, []);
  React.useLayoutEffect(measure);
  React.useEffect(() => {
    // What is above it changes its height without this being rendered, too.
    const view = list.current?.closest('.jp-Dsvm-view');
    if (!view || typeof ResizeObserver === 'undefined') {
      return;
    }
    const observer = new ResizeObserver(measure);
    observer.observe(view);
    return () => observer.disconnect();
  }, []);
  return top;
}
