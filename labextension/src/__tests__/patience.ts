/** Before every spec: on a busy machine things come later, and that alone is no failure. */
import { configure } from '@testing-library/dom';

configure({ asyncUtilTimeout: 20_000 });
