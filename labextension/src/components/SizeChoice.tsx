import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ICompute, IProblem, ISizeOffer, ISizeOfferList } from '../api';
import { h } from '../jsx';
import { priceText, shortSizeName, sizeText } from '../words';
import { Linked } from './Linked';
import { Problem } from './Problem';
import { SizeTable } from './SizeTable';

export interface ISizeChoiceProps {
  compute: ICompute;
  /** Null while they are being asked for. */
  offers: ISizeOfferList | null;
  /** Why they could not be listed, or why the machine was not resized. */
  problem: IProblem | null;
  /** The notebooks whose kernels end with a resize. */
  notebooks: readonly string[];
  /** The name of the chosen size; empty: none yet. */
  chosen: string;
  endKernels: boolean;
  /** What the person still has to do. */
  missing: string;
  /** Whether sizes with a GPU are left out to begin with. */
  withoutGpu?: boolean;
  onChoose: (size: string) => void;
  onEndKernels: (end: boolean) => void;
  trans: TranslationBundle;
}

/** The body of the resize dialog. */
export function SizeChoice(props: ISizeChoiceProps): React.ReactElement {
  const { compute, offers, problem, notebooks, trans } = props;
  const next = offers?.sizes.find(offer => offer.size.name === props.chosen);
  return (
    <div className="jp-Dsvm-sizeChoice">
      {problem && <Problem problem={problem} trans={trans} />}
      {!offers && !problem && (
        <p role="status" aria-busy="true">
          {trans.__('Asking Azure which sizes %1 can have…', compute.name)}
        </p>
      )}
      {offers && (
        <>
          <p className="jp-Dsvm-notice">
            <Linked text={offers.notice} />
          </p>
          {offers.sizes.length > 0 && (
            <>
              <SizeTable
                offers={offers.sizes}
                label={trans.__('Sizes for %1', compute.name)}
                chosen={props.chosen}
                isFirst
                withoutGpu={props.withoutGpu}
                onChoose={props.onChoose}
                trans={trans}
              />
              <p role="status" className="jp-Dsvm-change">
                {next ? changeText(compute, next, trans) : ''}
              </p>
            </>
          )}
          {notebooks.length > 0 && offers.sizes.length > 0 && (
            <label className="jp-Dsvm-check">
              <input
                type="checkbox"
                checked={props.endKernels}
                onChange={event => props.onEndKernels(event.target.checked)}
              />
              <span>
                {trans._n(
                  'End the kernel of %2. Its variables will be lost, and it goes back to the free tier; the file and its outputs stay.',
                  'End the kernels of %2. Their variables will be lost, and they go back to the free tier; the files and their outputs stay.',
                  notebooks.length,
                  notebooks.join(', ')
                )}
              </span>
            </label>
          )}
        </>
      )}
      <p role="status" className="jp-Dsvm-missing">
        {props.missing}
      </p>
    </div>
  );
}

/** “gpu-vm becomes NC8as_T4_v3 · 8 CPU · 56 GB · 1 × T4 · ~$0.75/h in place of ~$0.53/h”. */
function changeText(compute: ICompute, next: ISizeOffer, trans: TranslationBundle): string {
  const price = next.price && priceText(next.price, trans);
  return [
    trans.__('%1 becomes %2', compute.name, shortSizeName(next.size.name)),
    sizeText(next.size, trans),
    price && compute.price
      ? trans.__('%1 in place of %2', price, priceText(compute.price, trans))
      : price
  ]
    .filter(Boolean)
    .join(' · ');
}
