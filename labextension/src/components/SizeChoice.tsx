import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ICompute, IProblem, ISize, ISizeOffer, ISizeOfferList } from '../api';
import { fittingOffers } from '../offers';
import { gpuText, memoryText, priceText, sizeText } from '../words';
import { Linked } from './Linked';
import { Problem } from './Problem';

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
  onChoose: (size: string) => void;
  onEndKernels: (end: boolean) => void;
  trans: TranslationBundle;
}

/** The body of the resize dialog. */
export function SizeChoice(props: ISizeChoiceProps): React.ReactElement {
  const { compute, offers, problem, notebooks, trans } = props;
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
          {offers.sizes.length > 0 && <Sizes {...props} offers={offers} />}
          {notebooks.length > 0 && offers.sizes.length > 0 && (
            <label className="jp-Dsvm-check">
              <input
                type="checkbox"
                checked={props.endKernels}
                onChange={event => props.onEndKernels(event.target.checked)}
              />
              <span>
                {trans._n(
                  'End the kernel of %2. Its variables will be lost; the file and its outputs stay.',
                  'End the kernels of %2. Their variables will be lost; the files and their outputs stay.',
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

function Sizes(props: ISizeChoiceProps & { offers: ISizeOfferList }): React.ReactElement {
  const { compute, offers, chosen, trans } = props;
  const [text, setText] = React.useState('');
  const [withGpu, setWithGpu] = React.useState(false);
  const filter = React.useRef<HTMLInputElement>(null);

  // The dialog put the focus on its button, there being no filter yet. A person who has moved on by now stays there.
  React.useEffect(() => {
    if (document.activeElement?.matches('.jp-Dialog-button.jp-mod-accept')) {
      filter.current?.focus();
    }
  }, []);

  const shown = fittingOffers(offers.sizes, { text, withGpu });
  const next = offers.sizes.find(offer => offer.size.name === chosen);
  return (
    <>
      <div className="jp-Dsvm-filter">
        <input
          ref={filter}
          className="jp-mod-styled"
          type="search"
          value={text}
          placeholder={trans.__('Filter by name or GPU')}
          aria-label={trans.__('Filter by name or GPU')}
          autoComplete="off"
          spellCheck={false}
          onChange={event => setText(event.target.value)}
        />
        <label className="jp-Dsvm-check">
          <input
            type="checkbox"
            checked={withGpu}
            onChange={event => setWithGpu(event.target.checked)}
          />
          {trans.__('Only with GPU')}
        </label>
        <span role="status" className="jp-Dsvm-quiet">
          {shown.length === 0
            ? trans.__('No size fits.')
            : trans.__('%1 of %2 sizes', shown.length, offers.sizes.length)}
        </span>
      </div>
      <div
        className="jp-Dsvm-sizes"
        role="radiogroup"
        aria-label={trans.__('Sizes for %1', compute.name)}
      >
        <table>
          <thead>
            <tr>
              <th scope="col">{trans.__('Size')}</th>
              <th scope="col">{trans.__('CPU')}</th>
              <th scope="col">{trans.__('Memory')}</th>
              <th scope="col">{trans.__('GPU')}</th>
              <th scope="col">{trans.__('Price')}</th>
            </tr>
          </thead>
          {shown.map(offer => (
            <Row
              key={offer.size.name}
              offer={offer}
              isChosen={offer.size.name === chosen}
              onChoose={() => props.onChoose(offer.size.name)}
              trans={trans}
            />
          ))}
        </table>
      </div>
      <p role="status" className="jp-Dsvm-change">
        {next
          ? [
              trans.__('%1 becomes %2', compute.name, shortName(next.size.name)),
              sizeText(next.size, trans),
              next.price && compute.price
                ? trans.__(
                    '%1 in place of %2',
                    priceText(next.price, trans),
                    priceText(compute.price, trans)
                  )
                : next.price && priceText(next.price, trans)
            ]
              .filter(Boolean)
              .join(' · ')
          : ''}
      </p>
    </>
  );
}

interface IRowProps {
  offer: ISizeOffer;
  isChosen: boolean;
  onChoose: () => void;
  trans: TranslationBundle;
}

function Row(props: IRowProps): React.ReactElement {
  const { offer, trans } = props;
  const { size, price } = offer;
  const canChoose = offer.available && !offer.current;
  const notes = `jp-dsvm-size-${size.name}`;
  const hasNotes = offer.current || offer.reason !== '' || offer.warnings.length > 0;
  const unknown = trans.__('not known');
  return (
    <tbody
      data-size={size.name}
      data-available={canChoose}
      onClick={canChoose ? props.onChoose : undefined}
    >
      <tr aria-current={offer.current || undefined}>
        <td>
          <label className="jp-Dsvm-check" title={size.name}>
            <input
              type="radio"
              name="jp-dsvm-size"
              value={size.name}
              checked={props.isChosen}
              disabled={!canChoose}
              aria-describedby={hasNotes ? notes : undefined}
              onChange={props.onChoose}
            />
            {shortName(size.name)}
          </label>
        </td>
        <td>{size.vcpus ?? unknown}</td>
        <td>{size.memory_gib === null ? unknown : memoryText(size.memory_gib, trans)}</td>
        <td>{gpusText(size, trans)}</td>
        <td
          title={
            price
              ? trans.__('List price of %1; your own price may differ.', price.as_of)
              : undefined
          }
        >
          {price ? priceText(price, trans) : unknown}
        </td>
      </tr>
      {hasNotes && (
        <tr>
          <td id={notes} className="jp-Dsvm-notes" colSpan={5}>
            {offer.current && <p>{trans.__('Its size now.')}</p>}
            {offer.reason && (
              <p>
                <Linked text={offer.reason} />
              </p>
            )}
            {offer.warnings.map((warning, index) => (
              <p key={index} className="jp-Dsvm-warning">
                <Linked text={warning} />
              </p>
            ))}
          </td>
        </tr>
      )}
    </tbody>
  );
}

function gpusText(size: ISize, trans: TranslationBundle): string {
  if (size.gpus === null) {
    return trans.__('not known');
  }
  if (size.gpus === 0) {
    return trans.__('none');
  }
  return size.gpu_model
    ? trans.__('%1 × %2', size.gpus, gpuText(size.gpu_model))
    : String(size.gpus);
}

/** “NC4as_T4_v3” of “Standard_NC4as_T4_v3”: all have that in front. */
function shortName(name: string): string {
  return name.replace(/^Standard_/, '');
}
