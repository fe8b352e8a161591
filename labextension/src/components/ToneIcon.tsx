import * as React from 'react';

import { toneIcons } from '../icons';
import { h } from '../jsx';
import { Tone } from '../words';

/** The picture of a state. Words always stand beside it, so screen readers skip it. */
export function ToneIcon(props: { tone: Tone }): React.ReactElement {
  const Icon = toneIcons[props.tone];
  return (
    <span className="jp-Dsvm-tone" data-tone={props.tone} aria-hidden="true">
      <Icon.react tag={null} />
    </span>
  );
}
