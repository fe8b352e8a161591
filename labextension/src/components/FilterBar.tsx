import { TranslationBundle } from '@jupyterlab/translation';
import { filterDotIcon, filterIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { ICompute } from '../api';
import {
  DEFAULT_FILTERS,
  IFilters,
  isFiltering,
  MEMORY_CHOICES,
  StateFilter,
  subscriptionsOf
} from '../filters';
import { h } from '../jsx';

/** With no more machines than these nobody needs to search, and the filters are behind their button. */
export const FEW = 6;

/** As `schema/plugin.json` has it. */
const LONGEST_TEXT = 200;

export interface IFilterBarProps {
  filters: IFilters;
  machines: readonly ICompute[];
  /** How many of them fit. */
  shown: number;
  /** Without it there is nothing to filter with. */
  onChange?: (change: Partial<IFilters>) => void;
  /** The section's heading, beside which the button is. */
  heading: React.ReactNode;
  /** What is between the heading and the filters. */
  children?: React.ReactNode;
  trans: TranslationBundle;
}

/** The section's heading with the button for the filters, and the filters. */
export function FilterBar(props: IFilterBarProps): React.ReactElement {
  const { filters, machines, shown, trans } = props;
  const onChange = machines.length > 1 ? props.onChange : undefined;
  const [isOpen, setOpen] = React.useState(false);
  // A field that somebody is in must not vanish with its last letter.
  const [wasUsed, setUsed] = React.useState(false);
  const hasText = isOpen || wasUsed || machines.length > FEW || filters.text !== '';
  const field = React.useRef<HTMLInputElement>(null);
  const button = React.useRef<HTMLButtonElement>(null);
  const isOn = isFiltering(filters);
  const Icon = isOn ? filterDotIcon : filterIcon;
  const clear = () => {
    onChange?.(DEFAULT_FILTERS);
    // The button that was pressed is no longer there.
    (field.current ?? button.current)?.focus();
  };
  return (
    <>
      <div className="jp-Dsvm-heading">
        {props.heading}
        {onChange && (
          <button
            ref={button}
            className="jp-Dsvm-menuButton"
            aria-expanded={isOpen}
            aria-label={isOn ? trans.__('Filters (some are set)') : trans.__('Filters')}
            title={trans.__('Filters')}
            onClick={() => setOpen(!isOpen)}
          >
            <span aria-hidden="true">
              <Icon.react tag={null} />
            </span>
          </button>
        )}
      </div>
      {props.children}
      {onChange && (hasText || isOn) && (
        <div role="search" className="jp-Dsvm-filters" aria-label={trans.__('Filter the machines')}>
          {hasText && (
            <input
              ref={field}
              className="jp-mod-styled"
              type="search"
              maxLength={LONGEST_TEXT}
              value={filters.text}
              placeholder={trans.__('Filter by name, size, region')}
              aria-label={trans.__('Filter by name, size, region')}
              autoComplete="off"
              spellCheck={false}
              onFocus={() => setUsed(true)}
              onChange={event => onChange({ text: event.target.value })}
            />
          )}
          {isOpen && <Choices {...props} onChange={onChange} />}
          {isOn && (
            <p className="jp-Dsvm-filterResult">
              <span role="status">{trans.__('Showing %1 of %2.', shown, machines.length)}</span>
              <button className="jp-Dsvm-textButton" onClick={clear}>
                {trans.__('Clear filters')}
              </button>
            </p>
          )}
        </div>
      )}
    </>
  );
}

interface IChoicesProps extends Pick<IFilterBarProps, 'filters' | 'machines' | 'trans'> {
  onChange: (change: Partial<IFilters>) => void;
}

function Choices(props: IChoicesProps): React.ReactElement {
  const { filters, machines, onChange, trans } = props;
  const subscriptions = subscriptionsOf(machines);
  const states: [StateFilter, string][] = [
    ['any', trans.__('Any state')],
    ['on', trans.__('On')],
    ['off', trans.__('Off')],
    ['attached', trans.__('With notebooks')]
  ];
  const memories: [string, string][] = [
    ['0', trans.__('Any memory')],
    ...MEMORY_CHOICES.map((gib): [string, string] => [String(gib), trans.__('%1 GB or more', gib)])
  ];
  return (
    <div className="jp-Dsvm-choices">
      <label className="jp-Dsvm-check">
        <input
          type="checkbox"
          checked={filters.withGpu}
          onChange={event => onChange({ withGpu: event.target.checked })}
        />
        {trans.__('Only with GPU')}
      </label>
      <Choice
        label={trans.__('Memory')}
        value={String(filters.memory)}
        options={memories}
        onChange={value => onChange({ memory: Number(value) })}
      />
      <Choice
        label={trans.__('State')}
        value={filters.state}
        options={states}
        onChange={value => onChange({ state: value as StateFilter })}
      />
      {subscriptions.length > 1 && (
        <Choice
          label={trans.__('Subscription')}
          value={subscriptions.includes(filters.subscription) ? filters.subscription : ''}
          options={[
            ['', trans.__('Any subscription')],
            ...subscriptions.map((id): [string, string] => [id, id])
          ]}
          onChange={value => onChange({ subscription: value })}
        />
      )}
    </div>
  );
}

function Choice(props: {
  label: string;
  value: string;
  options: readonly (readonly [string, string])[];
  onChange: (value: string) => void;
}): React.ReactElement {
  return (
    <div className="jp-select-wrapper">
      <select
        className="jp-mod-styled"
        aria-label={props.label}
        value={props.value}
        onChange={event => props.onChange(event.target.value)}
      >
        {props.options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}
