import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { FREE, IAdvice, ICompute, IFit } from '../api';
import { h } from '../jsx';
import { nameOf } from '../words';

/** Before the words, for the eye alone: the sentence says it. */
const MARKS: Record<IAdvice['gpu'], string> = {
  needed: '✓',
  gains: '✓',
  no_gain: '–',
  unknown: '?'
};

export interface IAdviceLineProps {
  /** Where to. */
  compute: ICompute;
  load: () => Promise<IAdvice>;
  trans: TranslationBundle;
}

/** CPU or GPU for this notebook, in a line; the reasons unfold. It holds nothing up, and what cannot be found out is left out. */
export function AdviceLine(props: IAdviceLineProps): React.ReactElement | null {
  const { compute, load, trans } = props;
  const [advice, setAdvice] = React.useState<IAdvice | null>(null);
  React.useEffect(() => {
    let wanted = true;
    load().then(
      found => wanted && setAdvice(found),
      () => undefined // the move goes on without it
    );
    return () => {
      wanted = false;
    };
  }, []);
  const [first, ...rest] = advice?.sentences ?? [];
  if (!advice || !first) {
    return null;
  }
  const warning = warningOf(advice, compute, trans);
  return (
    <div className="jp-Dsvm-advice" role="status">
      <p>
        <span aria-hidden="true">{warning ? '▲' : MARKS[advice.gpu]} </span>
        {first}
      </p>
      {warning && <p>{warning}</p>}
      {rest.length > 0 && (
        <details>
          <summary>{trans.__('Why, and what fits')}</summary>
          <ul>
            {rest.map(sentence => (
              <li key={sentence}>{sentence}</li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}

/** What speaks against this very machine; empty where nothing is known that does. */
export function warningOf(advice: IAdvice, compute: ICompute, trans: TranslationBundle): string {
  const fit = advice.fits.find(row => row.compute === compute.id);
  if (!fit) {
    return '';
  }
  const name = nameOf(compute, compute.id, trans);
  if (fit.fits === false) {
    return trans.__('%1 has not enough memory for it, as far as is known.', name);
  }
  if (advice.gpu === 'needed' && !fit.gpu) {
    return trans.__('%1 has no GPU.', name);
  }
  const cheaper = cheapestCpu(advice.fits);
  const times = cheaper && timesAsMuch(fit, cheaper);
  if (advice.gpu === 'no_gain' && fit.gpu && cheaper && times && times > 1) {
    return trans.__(
      '%1 costs %2 times as much as %3, with no gain.',
      name,
      times >= 10 ? times.toFixed(0) : times.toFixed(1),
      cheaper.name
    );
  }
  return '';
}

function cheapestCpu(fits: IFit[]): IFit | undefined {
  return fits
    .filter(row => !row.gpu && row.fits !== false && row.price && row.compute !== FREE)
    .sort((a, b) => a.price!.amount - b.price!.amount)[0];
}

function timesAsMuch(one: IFit, other: IFit): number | null {
  return one.price && other.price && one.price.currency === other.price.currency
    ? one.price.amount / other.price.amount
    : null;
}
