import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { IGauge, Level } from '../gauges';
import { h } from '../jsx';
import { ToneIcon } from './ToneIcon';

/** How much of something is in use: “Memory 2.9 of 4 GB”, and a bar. */
export function Gauge(props: { gauge: IGauge; trans: TranslationBundle }): React.ReactElement {
  const { gauge, trans } = props;
  const percent = Math.round(Math.min(1, Math.max(0, gauge.share)) * 100);
  const warning = warningOf(gauge.level, trans);
  return (
    <div className="jp-Dsvm-gauge" data-level={gauge.level}>
      <p className="jp-Dsvm-gaugeText">
        {warning && <ToneIcon tone="warn" />}
        <span>{gauge.text}</span>
        {warning && <strong>{warning}</strong>}
      </p>
      <div
        className="jp-Dsvm-gaugeBar"
        role="meter"
        aria-label={gauge.label}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={percent}
        aria-valuetext={gauge.value}
      >
        <div className="jp-Dsvm-gaugeFill" style={{ width: `${percent}%` }} />
      </div>
    </div>
  );
}

function warningOf(level: Level, trans: TranslationBundle): string {
  switch (level) {
    case 'full':
      return trans.__('nearly full');
    case 'high':
      return trans.__('getting full');
    default:
      return '';
  }
}

/** All that is known of one compute; nothing where nothing is. */
export function Gauges(props: {
  gauges: readonly IGauge[];
  trans: TranslationBundle;
}): React.ReactElement | null {
  const { gauges, trans } = props;
  return gauges.length > 0 ? (
    <div className="jp-Dsvm-usage">
      {gauges.map(gauge => (
        <Gauge key={gauge.label} gauge={gauge} trans={trans} />
      ))}
    </div>
  ) : null;
}
