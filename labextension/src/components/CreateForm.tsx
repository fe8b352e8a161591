import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ICreation, IProblem } from '../api';
import { h } from '../jsx';
import { priceText, shortSizeName, sizeText } from '../words';
import { Linked } from './Linked';
import { Problem } from './Problem';
import { SizeTable } from './SizeTable';

/** What the person has filled in. An empty text leaves the choice to the server. */
export interface IWanted {
  name: string;
  size: string;
  isPrivate: boolean;
  sourceAddress: string;
  resourceGroup: string;
}

export interface ICreateFormProps {
  /** What can be chosen; null while it is asked for the first time. */
  creation: ICreation | null;
  /** Whether it is being asked for again, for another place. */
  isLoading: boolean;
  wanted: IWanted;
  /** Why the choices could not be had, or why the machine was not made. */
  problem: IProblem | null;
  /** What the person still has to do. */
  missing: string;
  onChange: (change: Partial<IWanted>) => void;
  /** The sizes depend on both. */
  onPlace: (subscription: string | null, location: string | null) => void;
  trans: TranslationBundle;
}

/** The body of the dialog that makes a machine. */
export function CreateForm(props: ICreateFormProps): React.ReactElement {
  const { creation, problem, trans } = props;
  return (
    <div className="jp-Dsvm-sizeChoice">
      {problem && <Problem problem={problem} trans={trans} />}
      {!creation && !problem && (
        <p role="status" aria-busy="true">
          {trans.__('Asking Azure what can be made…')}
        </p>
      )}
      {creation && !creation.allowed && (
        <p>
          <Linked text={creation.reason} />
        </p>
      )}
      {creation?.allowed && <Fields {...props} creation={creation} />}
      <p role="status" className="jp-Dsvm-missing">
        {props.missing}
      </p>
    </div>
  );
}

function Fields(props: ICreateFormProps & { creation: ICreation }): React.ReactElement {
  const { creation, wanted, isLoading, onChange, onPlace, trans } = props;
  const next = creation.sizes.find(offer => offer.size.name === wanted.size);
  return (
    <>
      <div className="jp-Dsvm-fields">
        <Text
          label={trans.__('Name')}
          value={wanted.name}
          isFirst
          onChange={name => onChange({ name })}
        />
        {creation.subscriptions.length > 1 && (
          <Choice
            label={trans.__('Subscription')}
            value={creation.subscription}
            options={creation.subscriptions.map(({ id, name, available, reason }) => ({
              value: id,
              text: available ? name : trans.__('%1: %2', name, reason),
              isOff: !available
            }))}
            onChange={subscription => onPlace(subscription, null)}
            trans={trans}
          />
        )}
        <Choice
          label={trans.__('Region')}
          value={creation.location}
          options={creation.locations.map(({ name, text }) => ({ value: name, text }))}
          onChange={location => onPlace(creation.subscription, location)}
          trans={trans}
        />
      </div>
      {isLoading && (
        <p role="status" aria-busy="true">
          {trans.__('Asking Azure which sizes there are…')}
        </p>
      )}
      {!isLoading && creation.sizes.length > 0 && (
        <>
          <SizeTable
            offers={creation.sizes}
            label={trans.__('Sizes for the new machine')}
            chosen={wanted.size}
            onChoose={size => onChange({ size })}
            trans={trans}
          />
          <p role="status" className="jp-Dsvm-change">
            {next
              ? [
                  shortSizeName(next.size.name),
                  sizeText(next.size, trans),
                  next.price && priceText(next.price, trans)
                ]
                  .filter(Boolean)
                  .join(' · ')
              : ''}
          </p>
        </>
      )}
      {creation.private_only ? (
        <p>{trans.__('It gets no public address: your administrator has set that.')}</p>
      ) : (
        <label className="jp-Dsvm-check">
          <input
            type="checkbox"
            checked={wanted.isPrivate}
            onChange={event => onChange({ isPrivate: event.target.checked })}
          />
          {trans.__('Private: no public address')}
        </label>
      )}
      {!wanted.isPrivate && !creation.private_only && (
        <Text
          label={trans.__(
            'This server’s public address: it alone, or the network that you name, may reach the machine'
          )}
          value={wanted.sourceAddress}
          placeholder={creation.source_address}
          onChange={sourceAddress => onChange({ sourceAddress })}
        />
      )}
      <details>
        <summary>{trans.__('Resource group')}</summary>
        <Text
          label={trans.__('Resource group')}
          value={wanted.resourceGroup}
          placeholder={creation.resource_group}
          onChange={resourceGroup => onChange({ resourceGroup })}
        />
      </details>
      <p className="jp-Dsvm-notice">
        <Linked text={creation.notice} />
      </p>
    </>
  );
}

interface ITextProps {
  label: string;
  value: string;
  placeholder?: string;
  isFirst?: boolean;
  onChange: (value: string) => void;
}

function Text(props: ITextProps): React.ReactElement {
  const field = React.useRef<HTMLInputElement>(null);
  // The dialog put the focus on its button, there being no field yet.
  React.useEffect(() => {
    if (props.isFirst && document.activeElement?.matches('.jp-Dialog-button.jp-mod-accept')) {
      field.current?.focus();
    }
  }, []);
  return (
    <label className="jp-Dsvm-field">
      {props.label}
      <input
        ref={field}
        data-first={props.isFirst || undefined}
        className="jp-mod-styled"
        value={props.value}
        placeholder={props.placeholder}
        autoComplete="off"
        spellCheck={false}
        onChange={event => props.onChange(event.target.value)}
      />
    </label>
  );
}

interface IChoiceProps {
  label: string;
  value: string | null;
  options: { value: string; text: string; isOff?: boolean }[];
  onChange: (value: string) => void;
  trans: TranslationBundle;
}

function Choice(props: IChoiceProps): React.ReactElement {
  return (
    <label className="jp-Dsvm-field">
      {props.label}
      <div className="jp-select-wrapper">
        <select
          className="jp-mod-styled"
          value={props.value ?? ''}
          onChange={event => props.onChange(event.target.value)}
        >
          {props.value === null && <option value="">{props.trans.__('Choose one')}</option>}
          {props.options.map(({ value, text, isOff }) => (
            <option key={value} value={value} disabled={isOff}>
              {text}
            </option>
          ))}
        </select>
      </div>
    </label>
  );
}
