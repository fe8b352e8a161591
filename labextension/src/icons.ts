import { LabIcon } from '@jupyterlab/ui-components';

import busySvg from '../style/icons/busy.svg';
import computeSvg from '../style/icons/compute.svg';
import goneSvg from '../style/icons/gone.svg';
import offSvg from '../style/icons/off.svg';
import onSvg from '../style/icons/on.svg';
import warnSvg from '../style/icons/warn.svg';
import { Tone } from './words';

export const computeIcon = new LabIcon({ name: 'jupyter-dsvm:compute', svgstr: computeSvg });

/** Shape and colour differ, so that neither is needed to tell them apart. */
export const toneIcons: Record<Tone, LabIcon> = {
  on: new LabIcon({ name: 'jupyter-dsvm:on', svgstr: onSvg }),
  busy: new LabIcon({ name: 'jupyter-dsvm:busy', svgstr: busySvg }),
  off: new LabIcon({ name: 'jupyter-dsvm:off', svgstr: offSvg }),
  warn: new LabIcon({ name: 'jupyter-dsvm:warn', svgstr: warnSvg }),
  gone: new LabIcon({ name: 'jupyter-dsvm:gone', svgstr: goneSvg })
};
