import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ISize, ISizeOffer } from '../api';
import { h } from '../jsx';
import { fittingOffers } from '../offers';
import { gpuText, memoryText, priceSource, priceText, shortSizeName } from '../words';
import { Linked } from './Linked';

export interface ISizeTableProps {
  offers: readonly ISizeOffer[];
  /** What the sizes are for. */
  label: string;
  /** The name of the chosen size; empty: none yet. */
  chosen: string;
  /** Whether its filter is the first thing in the dialog. */
  isFirst?: boolean;
  /** Whether those with a GPU are left out to begin with. */
  withoutGpu?: boolean;
  onChoose: (size: string) => void;
  trans: TranslationBundle;
}

/** Sizes to choose one of. */
export function SizeTable(props: ISizeTableProps): React.ReactElement {
  const { offers, chosen, trans } = props;
  const [text, setText] = React.useState('');
  const [withGpu, setWithGpu] = React.useState(false);
  const [withoutGpu, setWithoutGpu] = React.useState(!!props.withoutGpu);
  const filter = React.useRef<HTMLInputElement>(null);

  // The dialog put the focus on its button, there being no filter yet. A person who has moved on by now stays there.
  React.useEffect(() => {
    if (props.isFirst && document.activeElement?.matches('.jp-Dialog-button.jp-mod-accept')) {
      filter.current?.focus();
    }
  }, []);

  const shown = fittingOffers(offers, { text, withGpu, withoutGpu });
  return (
    <>
      <div className="jp-Dsvm-filter">
        <input
          ref={filter}
          data-first={props.isFirst || undefined}
          className="jp-mod-styled"
          type="search"
          value={text}
          placeholder={trans.__('Filter by name or GPU')}
          aria-label={trans.__('Filter by name or GPU')}
          autoComplete="off"
          spellCheck={false}
          onChange={event => setText(event.target.value)}
        />
        {props.withoutGpu && (
          <label className="jp-Dsvm-check">
            <input
              type="checkbox"
              checked={withoutGpu}
              onChange={event => setWithoutGpu(event.target.checked)}
            />
            {trans.__('Only without GPU')}
          </label>
        )}
        {!withoutGpu && (
          <label className="jp-Dsvm-check">
            <input
              type="checkbox"
              checked={withGpu}
              onChange={event => setWithGpu(event.target.checked)}
            />
            {trans.__('Only with GPU')}
          </label>
        )}
        <span role="status" className="jp-Dsvm-quiet">
          {shown.length === 0
            ? trans.__('No size fits.')
            : trans.__('%1 of %2 sizes', shown.length, offers.length)}
        </span>
      </div>
      <div className="jp-Dsvm-sizes" role="radiogroup" aria-label={props.label}>
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
            {shortSizeName(size.name)}
          </label>
        </td>
        <td>{size.vcpus ?? unknown}</td>
        <td>{size.memory_gib === null ? unknown : memoryText(size.memory_gib, trans)}</td>
        <td>{gpusText(size, trans)}</td>
        <td title={price ? priceSource(price, trans) : undefined}>
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
